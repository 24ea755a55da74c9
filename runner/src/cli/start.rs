//! `start`: from arguments to a checked configuration, and on to the supervisor.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::config::{self, Config, Format, Level, Logging, Sources, StartOptions};
use crate::supervise::{self, probe, worker};

const EXAMPLES: &str = "\
Examples:
  Serve the libraries of a folder, on the socket that the gateway names in APISIX_LISTEN_ADDRESS
  (without a gateway: /tmp/runner.sock):
    plugin-runner start --plugins /srv/plugins

  In APISIX's config.yaml:
    ext-plugin:
      cmd: [\"/opt/plugin-runner/plugin-runner\", \"start\", \"--plugins\", \"/srv/plugins\"]

  Check a configuration before it is used:
    plugin-runner start --config /etc/plugin-runner/config.yaml --test

Exit codes: 0 done, 1 failed, 64 wrong arguments or configuration.
Signals: TERM and INT finish the calls in flight and end, HUP looks for changed libraries,
USR1 opens the log file again.";

/// Serve a gateway: load the plugins, answer its calls, take up changed libraries
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Start {
    /// The configuration. Without it: conf/config.yaml or ../conf/config.yaml beside the
    /// executable, then /etc/plugin-runner/config.yaml, then the defaults
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The folder with the plugin libraries; wins over `plugins.dir` of the configuration
    #[arg(long, value_name = "DIR")]
    pub plugins: Option<PathBuf>,
    /// Run everything in one process, for debuggers: a plugin that crashes ends it
    #[arg(long)]
    pub no_supervisor: bool,
    /// Check the configuration and end: exit code 0 if it is good, 64 if not
    #[arg(long)]
    pub test: bool,
    /// End when the parent process ends; if that is a gateway it is done anyway
    #[arg(long)]
    pub exit_with_parent: bool,
    /// Log as JSON on stderr, whatever the configuration says, and what each plugin did in each call: for `dev`
    #[arg(long, hide = true)]
    pub steps: bool,
}

impl Start {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let options = StartOptions {
            no_supervisor: self.no_supervisor,
            exit_with_parent: self.exit_with_parent,
        };
        let sources = Sources::of_process(self.config, self.plugins)
            .context("cannot tell where this process runs")?;
        let mut config = config::load(&sources).context("the configuration is not usable")?;
        if self.steps {
            config.steps = true;
            config.logging = for_dev(&config.logging);
        }
        if self.test {
            config
                .read_bindings()
                .context("the bindings are not usable")?;
            super::say(&verdict(&config));
            return Ok(());
        }
        serve(config, options)
    }
}

/// `dev` reads the lines; it needs at least what serves and what does not.
fn for_dev(logging: &Logging) -> Logging {
    Logging {
        level: logging.level.max(Level::Info),
        format: Format::Json,
        file: None,
    }
}

fn verdict(config: &Config) -> String {
    match &config.file {
        Some(file) => format!("the configuration {} is good", file.display()),
        None => "no configuration file was found; the defaults are good".into(),
    }
}

fn serve(config: Config, options: StartOptions) -> anyhow::Result<()> {
    supervise::start(config, options, &worker::inside)
}

pub(super) fn worker() -> anyhow::Result<()> {
    worker::main(&worker::inside)
}

pub(super) fn probe() -> anyhow::Result<()> {
    probe::main(&probe::inside)
}
