//! What a library says of itself, read from its file before any of its code runs. Never opens anything.

use plugin_api::abi::metadata::{FIXED, MAGIC, TARGET};
use plugin_api::abi::{ABI_MAJOR, ABI_MINOR};
use serde::{Deserialize, Serialize};

/// The content of a library's `.plugin_runner` section.
#[derive(Debug, Clone)]
pub struct Metadata {
    /// ABI that the library was built for.
    pub abi: (u16, u16),
    /// Whether panics unwind in it.
    pub unwinds: bool,
    /// The rest.
    pub text: Text,
}

/// The JSON part of the section.
#[derive(Debug, Clone, Deserialize)]
pub struct Text {
    /// Version of plugin-api.
    pub api: String,
    /// The compiler, as `rustc --version` says it.
    pub rustc: String,
    /// The target triple.
    pub target: String,
    /// The plugins in the library: one, in ABI 1.
    pub plugins: Vec<About>,
}

/// What the author's attribute knows of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct About {
    /// The name by which confs call it.
    pub name: String,
    /// The author's version.
    pub version: String,
    /// Oldest runner that it works with; empty: any.
    pub min_runner: String,
    /// Higher runs first where no order is given.
    pub priority: i32,
    /// Never runs on an event loop.
    pub blocking: bool,
    /// Says who the client is.
    pub authenticates: bool,
    /// Hands on the state of its confs.
    pub state: bool,
    /// The phases it has.
    pub phases: Vec<String>,
    /// What each phase needs beyond the frame.
    pub needs: std::collections::BTreeMap<String, Needs>,
}

/// What a phase needs beyond the frame.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Needs {
    /// Variables of the gateway.
    pub variables: Vec<String>,
    /// The request's body.
    pub request_body: bool,
    /// The upstream's body.
    pub response_body: bool,
}

/// Why a library cannot serve here. One sentence each, then what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// No section, or not ours.
    #[error("is not a plugin: it has no plugin-api metadata")]
    NotAPlugin,
    /// The section breaks off or is no JSON.
    #[error("has plugin-api metadata that cannot be read: {0}")]
    Unreadable(String),
    /// Another major version.
    #[error(
        "was built for plugin ABI {found_major}.{found_minor}, this runner has {ABI_MAJOR}.{ABI_MINOR}"
    )]
    OtherMajor {
        /// The library's.
        found_major: u16,
        /// The library's.
        found_minor: u16,
    },
    /// `panic = "abort"`.
    #[error("was built with panic = \"abort\": a panic in it would end the runner")]
    Aborts,
    /// Another target.
    #[error("was built for {found}, this runner is {TARGET}")]
    OtherTarget {
        /// The library's.
        found: String,
    },
    /// A newer runner is needed.
    #[error("needs plugin-runner {needed} or newer, this is {}", env!("CARGO_PKG_VERSION"))]
    RunnerTooOld {
        /// The library's `min_runner`.
        needed: String,
    },
}

impl Unfit {
    /// The way out.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotAPlugin => "build it with #[plugin] of gateway-plugin-api, as a cdylib",
            Self::Unreadable(_) => "copy the file again, or rebuild it",
            Self::OtherMajor { .. } => "rebuild it against the plugin-api of this runner's ABI",
            Self::Aborts => "remove `panic = \"abort\"` from the profile that builds it",
            Self::OtherTarget { .. } => "rebuild it for this machine's target",
            Self::RunnerTooOld { .. } => "upgrade the runner",
        }
    }
}

impl Metadata {
    /// Reads the section.
    ///
    /// # Errors
    /// [`Unfit::NotAPlugin`] and [`Unfit::Unreadable`]; a library of another major version is
    /// read no further than its version.
    pub fn read(section: &[u8]) -> Result<Self, Unfit> {
        let Some(fixed) = section.first_chunk::<FIXED>() else {
            return Err(Unfit::NotAPlugin);
        };
        if fixed[..8] != MAGIC {
            return Err(Unfit::NotAPlugin);
        }
        let number = |at: usize| u16::from_le_bytes([fixed[at], fixed[at + 1]]);
        let (found_major, found_minor) = (number(8), number(10));
        if found_major != ABI_MAJOR {
            return Err(Unfit::OtherMajor {
                found_major,
                found_minor,
            });
        }
        let len = u32::from_le_bytes([fixed[12], fixed[13], fixed[14], fixed[15]]) as usize;
        let text = section[FIXED..]
            .get(..len)
            .ok_or_else(|| Unfit::Unreadable("it breaks off".to_owned()))?;
        let text: Text =
            serde_json::from_slice(text).map_err(|error| Unfit::Unreadable(error.to_string()))?;
        Ok(Self {
            abi: (found_major, found_minor),
            unwinds: fixed[16] == 1,
            text,
        })
    }

    /// Whether a library with this metadata may be opened here.
    ///
    /// # Errors
    /// The reason why not.
    pub fn check(&self) -> Result<&About, Unfit> {
        if !self.unwinds {
            return Err(Unfit::Aborts);
        }
        if self.text.target != TARGET {
            return Err(Unfit::OtherTarget {
                found: self.text.target.clone(),
            });
        }
        let about = self.text.plugins.first().ok_or(Unfit::NotAPlugin)?;
        if newer_than_this(&about.min_runner) {
            return Err(Unfit::RunnerTooOld {
                needed: about.min_runner.clone(),
            });
        }
        Ok(about)
    }
}

fn newer_than_this(needed: &str) -> bool {
    let parts = |version: &str| -> Vec<u64> {
        version
            .split('.')
            .map(|part| part.parse().unwrap_or(0))
            .collect()
    };
    parts(needed) > parts(env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use plugin_api::abi::metadata::text_len;

    use super::*;

    const TEXT: &[&str] = &[
        r#"{"api":"1.0.0","rustc":"rustc 1.95.0","target":""#,
        TARGET,
        r#"","plugins":[{"name":"stop","version":"0.1.0","min_runner":"","phases":["access"]}]}"#,
    ];

    fn section() -> Vec<u8> {
        let mut bytes = Vec::from(MAGIC);
        bytes.extend(ABI_MAJOR.to_le_bytes());
        bytes.extend(ABI_MINOR.to_le_bytes());
        bytes.extend((text_len(TEXT) as u32).to_le_bytes());
        bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(TEXT.concat().bytes());
        bytes
    }

    #[track_caller]
    fn refused(change: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut bytes = section();
        change(&mut bytes);
        let checked = Metadata::read(&bytes).and_then(|metadata| metadata.check().map(drop));
        checked.unwrap_err().to_string()
    }

    #[test]
    fn a_whole_section_is_accepted_with_what_follows_it() {
        let mut bytes = section();
        bytes.extend([0; 40]);
        let metadata = Metadata::read(&bytes).unwrap();
        assert_eq!(metadata.check().unwrap().name, "stop");
    }

    #[test]
    fn each_unfit_library_gets_one_readable_sentence() {
        assert_eq!(
            refused(|bytes| bytes[8] = 2),
            "was built for plugin ABI 2.0, this runner has 1.0"
        );
        assert_eq!(
            refused(|bytes| bytes[16] = 0),
            "was built with panic = \"abort\": a panic in it would end the runner"
        );
        assert_eq!(
            refused(|bytes| bytes[0] = b'X'),
            "is not a plugin: it has no plugin-api metadata"
        );
        assert_eq!(
            refused(Vec::clear),
            "is not a plugin: it has no plugin-api metadata"
        );
        assert!(refused(|bytes| bytes.truncate(60)).ends_with("it breaks off"));
        let wrong_target = refused(|bytes| {
            let at = bytes
                .windows(6)
                .position(|part| part == &TARGET.as_bytes()[..6])
                .unwrap();
            bytes[at] = b'?';
        });
        assert!(
            wrong_target.starts_with("was built for ?"),
            "{wrong_target}"
        );
    }

    #[test]
    fn a_plugin_that_needs_a_newer_runner_is_refused() {
        assert!(newer_than_this("99.0"));
        assert!(!newer_than_this("") && !newer_than_this("0.0.9") && !newer_than_this("0.1"));
        assert!(!newer_than_this(env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn a_section_cut_anywhere_is_an_error_and_never_a_panic() {
        let bytes = section();
        for len in 0..bytes.len() {
            assert!(Metadata::read(&bytes[..len]).is_err(), "{len}");
        }
    }
}
