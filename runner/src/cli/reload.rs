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

  Let a new worker process take over, without failing a call:
    plugin-runner reload --recycle

Exit codes: 0 all that has changed serves (with --recycle: the new worker does), 1 something does not, or no runner
answered, 64 wrong arguments.";

/// Let a running runner look at its configuration and plugins again, and wait until it has
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Reload {
    /// Load this plugin again even if its library is unchanged; a file name for a library that does not serve
    plugin: Option<String>,
    /// Start a new worker with the same libraries, and let it take over every connection between two calls; memory of
    /// replaced libraries comes back. Waits until the old worker is gone, a minute at most
    #[arg(long, conflicts_with = "plugin")]
    recycle: bool,
    #[command(flatten)]
    which: Which,
}

impl Reload {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let request = match self.recycle {
            true => Request::Recycle,
            false => Request::Reload {
                plugin: self.plugin,
            },
        };
        ask::tell(self.which.ask(&request)?)
    }
}
