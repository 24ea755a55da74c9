//! `rollback` and `quarantine`: decide by hand that a build must not serve.

use clap::Args;

use super::ask::{self, Which};
use crate::supervise::admin::message::Request;

const ROLLBACK: &str = "\
Examples:
  The newest build of limit-req misbehaves: back to the one before it, at once and without a failed call:
    plugin-runner rollback limit-req

  Forward again:
    plugin-runner release limit-req

It stays so until another file is put into the plugins folder, also across a restart of the runner.
Exit codes: 0 the build before serves, 1 nothing has changed, or no runner answered, 64 wrong arguments.";

const QUARANTINE: &str = "\
Examples:
  Nobody is to be served by this build of limit-req any more, whatever that costs:
    plugin-runner quarantine limit-req

  Load it again:
    plugin-runner release limit-req

The build that served before takes over; without one, calls that need the plugin fail. It stays so until another file
is put into the plugins folder, also across a restart of the runner.
Exit codes: 0 done, 1 nothing has changed, or no runner answered, 64 wrong arguments.";

/// Let the build that served a plugin before serve it again
#[derive(Debug, Args)]
#[command(after_help = ROLLBACK)]
pub struct RollBack {
    /// The plugin's name
    plugin: String,
    #[command(flatten)]
    which: Which,
}

/// Let the build that serves a plugin not serve any more
#[derive(Debug, Args)]
#[command(after_help = QUARANTINE)]
pub struct Quarantine {
    /// The plugin's name
    plugin: String,
    #[command(flatten)]
    which: Which,
}

impl RollBack {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let plugin = self.plugin;
        ask::tell(self.which.ask(&Request::RollBack { plugin })?)
    }
}

impl Quarantine {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let plugin = self.plugin;
        ask::tell(self.which.ask(&Request::Quarantine { plugin })?)
    }
}
