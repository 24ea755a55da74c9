//! Which running runner is meant, and one question to it.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::config::{self, Sources};
use crate::exit::Failure;
use crate::supervise::admin::client::{self, AskError};
use crate::supervise::admin::message::{Answer, Request};

/// Which runner.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// The configuration that it was started with; it says where the runner can be asked. Without it: as for `start`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The process id of the runner, if there are several
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
}

impl Which {
    /// Asks it.
    ///
    /// # Errors
    /// The configuration is not usable, or there is no answer.
    pub(super) fn ask(&self, request: &Request) -> anyhow::Result<Answer> {
        let mut sources = Sources::of_process(self.config.clone(), None)
            .context("cannot tell where this process runs")?;
        sources.needs_plugins = false;
        let config = config::load(&sources).context("the configuration is not usable")?;
        client::ask(&config, self.pid, request).map_err(|error| failure(error).into())
    }
}

/// What to do about it.
pub(super) fn failure(error: AskError) -> Failure {
    let hint = match &error {
        AskError::NotFound(_) => {
            "ask as the runner's user or as root, with the --config that it was started with"
        }
        AskError::Several(_) => "name one with --pid",
        AskError::Silent { .. } => "see its log",
    };
    Failure::new(error.to_string()).hint(hint)
}

/// Prints what was done.
///
/// # Errors
/// Something of it was not.
pub(super) fn tell(answer: Answer) -> anyhow::Result<()> {
    match answer {
        Answer::Done { lines } => {
            lines.iter().for_each(|line| super::say(line));
            Ok(())
        }
        Answer::Failed { lines } => Err(Failure::new(lines.join("\n")).into()),
        Answer::Status(_) => Err(Failure::new("the runner answered another question").into()),
    }
}
