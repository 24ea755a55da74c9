//! The one error that authors return and get.

use std::fmt;

/// Why something could not be done, with the chain of causes as text.
///
/// Any `std::error::Error` becomes one with `?`. Returned from a phase, the call is answered with an error (the client
/// sees 503) and the text goes to the runner's log; the client never sees it.
pub struct Error {
    text: String,
    panic: bool,
}

/// A `Result` with [`Error`] in it.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with this text: lower case, no full stop, names the thing and the cause.
    pub fn new(text: impl fmt::Display) -> Self {
        Self {
            text: text.to_string(),
            panic: false,
        }
    }

    pub(crate) fn panicked(text: &str) -> Self {
        Self {
            text: format!("panicked: {text}"),
            panic: true,
        }
    }

    pub(crate) fn is_panic(&self) -> bool {
        self.panic
    }

    /// Puts what was being done before the text, and a colon between: `reading the key file: no such file`.
    #[must_use]
    pub fn context(self, doing: impl fmt::Display) -> Self {
        Self {
            text: format!("{doing}: {}", self.text),
            ..self
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

// `Error` itself is no `std::error::Error`: this conversion would overlap with `From<T> for T`.
impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        Self { text, panic: false }
    }
}

/// Returns an [`Error`](crate::Error) with a formatted text from the function.
///
/// ```
/// # use plugin_api::{Result, bail};
/// fn port(text: &str) -> Result<u16> {
///     let Ok(port) = text.parse() else {
///         bail!("`{text}` is no port");
///     };
///     Ok(port)
/// }
/// assert_eq!(port("x").unwrap_err().to_string(), "`x` is no port");
/// ```
#[macro_export]
macro_rules! bail {
    ($($text:tt)+) => {
        return ::core::result::Result::Err($crate::Error::new(::core::format_args!($($text)+)))
    };
}
