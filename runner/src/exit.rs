//! How the process ends: its exit codes, and the last error as people read it. Never panics on a
//! stderr that is closed.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::config::Faults;

/// What was asked for did not work.
pub const FAILURE: u8 = 1;
/// The command line or the configuration is wrong: trying again without a change is in vain.
pub const USAGE: u8 = 64;

/// An error with a way out, and the exit code it ends with.
#[derive(Debug)]
pub struct Failure {
    message: String,
    hint: Option<String>,
    code: u8,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// Says what did not work. Ends with [`FAILURE`].
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            code: FAILURE,
            source: None,
        }
    }

    /// Adds why.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Makes it end with [`USAGE`].
    #[must_use]
    pub fn usage(mut self) -> Self {
        self.code = USAGE;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source = self.source.as_deref()?;
        Some(source)
    }
}

/// Prints the error with its causes and hints to stderr; returns the code to end with.
pub fn report(error: &anyhow::Error) -> ExitCode {
    // Nobody is there to be told if stderr is closed.
    let _ = io::stderr().write_all(describe(error).as_bytes());
    ExitCode::from(code(error))
}

/// The code of the first cause that has one.
fn code(error: &anyhow::Error) -> u8 {
    let code = |cause: &(dyn Error + 'static)| match cause.downcast_ref::<Failure>() {
        Some(failure) => Some(failure.code),
        None => cause.is::<Faults>().then_some(USAGE),
    };
    error.chain().find_map(code).unwrap_or(FAILURE)
}

/// `error:`, one `cause:` for each cause and each of its lines, `hint:`.
fn describe(error: &anyhow::Error) -> String {
    let mut text = String::new();
    let mut hints = Vec::new();
    for (depth, cause) in error.chain().enumerate() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            hints.extend(&failure.hint);
        }
        for line in cause.to_string().lines() {
            let label = if depth == 0 { "error" } else { "  cause" };
            text += &format!("{label}: {line}\n");
        }
    }
    for hint in hints {
        text += &format!("  hint: {hint}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_with_its_causes_and_the_way_out() {
        let failure = Failure::new("cannot listen on /run/a.sock")
            .because(io::Error::other("permission denied"))
            .hint("give another path with APISIX_LISTEN_ADDRESS");
        let error = anyhow::Error::new(failure).context("the runner did not start");
        let wanted = "\
error: the runner did not start
  cause: cannot listen on /run/a.sock
  cause: permission denied
  hint: give another path with APISIX_LISTEN_ADDRESS
";
        assert_eq!(describe(&error), wanted);
        assert_eq!(code(&error), FAILURE);
    }

    #[test]
    fn wrong_usage_has_its_own_exit_code() {
        let failure = Failure::new("no such plugin").usage();
        assert_eq!(code(&anyhow::Error::new(failure).context("x")), USAGE);
        assert_eq!(code(&anyhow::anyhow!("x")), FAILURE);
    }
}
