//! Versions of the C library.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A version such as 2.31.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Glibc {
    major: u32,
    minor: u32,
}

impl Glibc {
    /// The first C library with this version of a symbol (`GLIBC_2.34`); `None` for versions that are none of glibc's.
    pub(super) fn of_symbol(version: &str) -> Option<Self> {
        match version.strip_prefix("GLIBC_")? {
            // No number in the name: compact relocations.
            "ABI_DT_RELR" => Some(Self {
                major: 2,
                minor: 36,
            }),
            number => parse(number),
        }
    }
}

/// `2.31`, and `2.2.5` as 2.2.
fn parse(text: &str) -> Option<Glibc> {
    let mut parts = text.split('.');
    let (major, minor) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let rest = parts.all(|part| part.parse::<u32>().is_ok());
    rest.then_some(Glibc { major, minor })
}

impl FromStr for Glibc {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = parse(text).filter(|glibc| glibc.major == 2);
        parsed.ok_or_else(|| "a version of the C library looks like 2.31".to_owned())
    }
}

impl fmt::Display for Glibc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Serialize for Glibc {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        let version = |text: &str| Glibc::of_symbol(text).unwrap();
        assert!(version("GLIBC_2.4") < version("GLIBC_2.31"));
        assert_eq!(version("GLIBC_2.2.5").to_string(), "2.2");
        assert!(version("GLIBC_ABI_DT_RELR") > version("GLIBC_2.34"));
        assert_eq!(Glibc::of_symbol("GLIBC_PRIVATE"), None);
        assert_eq!(Glibc::of_symbol("GCC_3.0"), None);
    }

    #[test]
    fn what_is_no_version_is_refused() {
        assert!("2.31".parse::<Glibc>().is_ok());
        for bad in ["", "2", "x.y", "2.x", "3.1", "2.31-ubuntu", "-2.3"] {
            assert!(bad.parse::<Glibc>().is_err(), "{bad}");
        }
    }
}
