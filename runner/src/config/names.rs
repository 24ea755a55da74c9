//! Values that are chosen by name, and the names.

use super::{At, Format, Level, OnFailure};

/// A type whose values the file chooses by name.
pub(super) trait Named: Sized {
    /// What may be written, for the message about what was.
    const CHOICES: &'static str;
    /// The value of that name, in upper or lower case.
    fn named(name: &str) -> Option<Self>;
}

impl Named for Level {
    const CHOICES: &'static str = "error, warn, info, debug or trace";

    /// `NOTSET` is the Python runner's word for a level that was not chosen: the default.
    fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "error" => Some(Self::Error),
            "warn" | "warning" => Some(Self::Warn),
            "info" | "notset" => Some(Self::Info),
            "debug" => Some(Self::Debug),
            "trace" => Some(Self::Trace),
            _ => None,
        }
    }
}

impl Named for Format {
    const CHOICES: &'static str = "auto, text or json";

    fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "auto" => Some(Self::Auto),
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

impl Named for OnFailure {
    const CHOICES: &'static str = "error or skip";

    fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "error" => Some(Self::Error),
            "skip" => Some(Self::Skip),
            _ => None,
        }
    }
}

impl Named for At {
    const CHOICES: &'static str = "pre or post";

    fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "pre" => Some(Self::Pre),
            "post" => Some(Self::Post),
            _ => None,
        }
    }
}
