//! `log-level`: changes how much a running runner logs.

use clap::Args;
use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser;

use super::ask::{self, Which};
use crate::config::Level;
use crate::supervise::admin::message::Request;

const LEVELS: [Level; 5] = [
    Level::Error,
    Level::Warn,
    Level::Info,
    Level::Debug,
    Level::Trace,
];

/// Change how much a running runner and its plugins log, until its configuration is read again
#[derive(Debug, Args)]
pub struct SetLevel {
    #[arg(value_parser = PossibleValuesParser::new(LEVELS.map(Level::name)).map(level))]
    level: Level,
    #[command(flatten)]
    which: Which,
}

impl SetLevel {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let level = self.level;
        ask::tell(self.which.ask(&Request::LogLevel { level })?)
    }
}

fn level(name: String) -> Level {
    let named = LEVELS.into_iter().find(|level| level.name() == name);
    named.unwrap_or_default()
}
