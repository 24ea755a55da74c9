//! `reload`: asks a running runner to look again.

use clap::Args;

use super::ask::{self, Which};
use crate::supervise::admin::message::Request;

const EXAMPLES: &str = "\
Examples:
  Take up what has changed in the plugins folder and in the configuration, and wait for it:
    plugin-runner reload

  Start plugin limit-req afresh, although its library is unchanged:
    plugin-runner reload limit-req

Exit codes: 0 all that has changed serves, 1 something does not, or no runner answered, 64 wrong arguments.";

/// Let a running runner look at its configuration and plugins again, and wait until it has
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Reload {
    /// Load this plugin again even if its library is unchanged; a file name for a library that does not serve
    plugin: Option<String>,
    #[command(flatten)]
    which: Which,
}

impl Reload {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let plugin = self.plugin;
        ask::tell(self.which.ask(&Request::Reload { plugin })?)
    }
}
