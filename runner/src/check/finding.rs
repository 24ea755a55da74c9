//! One finding: what was seen, what it means, how to mend it. Its id is stable, so that scripts may look for it.

use serde::Serialize;

/// How grave it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// `start` would not serve it.
    Error,
    /// It serves, and may give trouble.
    Warning,
    /// Good to know.
    Note,
}

impl Level {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// A kind of finding: see `kinds`.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) id: &'static str,
    pub(super) level: Level,
    pub(super) means: &'static str,
    pub(super) mend: &'static str,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable: `topic/fault`.
    pub id: &'static str,
    /// How grave it is.
    pub level: Level,
    /// What was seen in this file.
    pub what: String,
    /// What it leads to.
    pub means: &'static str,
    /// What to do about it.
    pub mend: String,
}

impl Finding {
    pub(super) fn new(kind: &Kind, what: impl Into<String>) -> Self {
        Self {
            id: kind.id,
            level: kind.level,
            what: what.into(),
            means: kind.means,
            mend: kind.mend.to_owned(),
        }
    }

    /// Of another gravity than its kind.
    #[must_use]
    pub(super) fn at(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// With what the runner itself would say.
    #[must_use]
    pub(super) fn mended_by(mut self, hint: Option<String>) -> Self {
        self.mend = hint.unwrap_or(self.mend);
        self
    }
}
