//! `release`: ends a quarantine by hand.

use clap::Args;

use super::ask::{self, Which};
use crate::supervise::admin::message::Request;

/// Load builds of a plugin again that are quarantined or rolled back
#[derive(Debug, Args)]
pub struct Release {
    /// The plugin's name, or the name of its file
    plugin: String,
    #[command(flatten)]
    which: Which,
}

impl Release {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let plugin = self.plugin;
        ask::tell(self.which.ask(&Request::Release { plugin })?)
    }
}
