//! Bytes of a call.

use std::borrow::Cow;
use std::fmt;
use std::str::Utf8Error;

/// A value as it came over the wire: bytes that may not be UTF-8, alive until the end of the call.
///
/// It compares with text and bytes as it is. To keep it for longer than the call, copy it.
///
/// ```
/// # use plugin_api::{Request, Result};
/// # fn phase(request: &Request<'_>, secret: &String) -> Result<()> {
/// if let Some(key) = request.header("x-key") {
///     let right = key == "fixed" || key == secret.as_str() || key == b"raw"[..];
///     let number: u32 = key.as_str()?.parse()?; // two errors: not UTF-8, not a number
///     let kept: String = key.to_string_lossy().into_owned();
///     # let _ = (right, number, kept);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value<'call>(&'call [u8]);

impl<'call> Value<'call> {
    pub(crate) const fn new(bytes: &'call [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(self) -> &'call [u8] {
        self.0
    }

    /// The text.
    ///
    /// # Errors
    /// The bytes are not UTF-8. (A value that is not there at all is `None` one level up.)
    pub const fn as_str(self) -> Result<&'call str, Utf8Error> {
        std::str::from_utf8(self.0)
    }

    /// The text, with U+FFFD for what is not UTF-8.
    pub fn to_string_lossy(self) -> Cow<'call, str> {
        String::from_utf8_lossy(self.0)
    }

    /// Whether there are no bytes.
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes there are.
    pub const fn len(self) -> usize {
        self.0.len()
    }
}

impl AsRef<[u8]> for Value<'_> {
    fn as_ref(&self) -> &[u8] {
        self.0
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_string_lossy())
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl PartialEq<str> for Value<'_> {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Value<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<[u8]> for Value<'_> {
    fn eq(&self, other: &[u8]) -> bool {
        self.0 == other
    }
}

/// One argument of the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arg<'call> {
    /// `?name`: no value at all.
    Flag,
    /// `?name=value`, decoded; `?name=` is an empty value.
    Value(Value<'call>),
}

impl<'call> Arg<'call> {
    /// The value; `None` for a flag.
    pub const fn value(self) -> Option<Value<'call>> {
        match self {
            Self::Flag => None,
            Self::Value(value) => Some(value),
        }
    }
}
