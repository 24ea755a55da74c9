//! `check`: from arguments to a report about each library, and the exit code.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::call::At;
use crate::call::Belongs;
use crate::check::{self, Glibc, Options, Report};
use crate::config::{self, Config, Level, Sources};
use crate::exit::Failure;
use crate::telemetry::{Sink, Style, Telemetry};

const EXAMPLES: &str = "\
Runs the file's own code, in a process that is thrown away (as root: as the user nobody); with
--metadata-only nothing of the file runs.

Examples:
  Before a library is shipped:
    plugin-runner check target/release/librequire_key.so --conf '{\"header\": \"x-key\"}'

  For a machine with an older C library, without running anything:
    plugin-runner check --metadata-only --glibc 2.31 librequire_key.so

  With what bindings.yaml configures it, on a route:
    plugin-runner check librequire_key.so --bindings bindings.yaml --route 12 --request sample.http

Bindings that name its plugin configure it, as `start` does, and apply to the sample call where --conf does not replace
them. Those of other plugins are left out: `plugin-runner call --plugins DIR` runs all of them.

Exit codes: 0 `start` would serve every file, 1 not, 64 wrong arguments or configuration.";

/// Say whether `start` would serve a library, and what else its author should know
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Check {
    /// The libraries
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Read the file only: nothing of it runs. Works for a file that was built for another machine
    #[arg(long, conflicts_with_all = ["conf", "request"])]
    pub metadata_only: bool,
    /// The C library that it is to run on, instead of this machine's
    #[arg(long, value_name = "VERSION")]
    pub glibc: Option<Glibc>,
    /// Configure the plugin with this, as a route would
    #[arg(long, value_name = "JSON")]
    pub conf: Option<String>,
    /// Run this request or response through it and time it: a file that looks like HTTP (see `call --help`). With
    /// --conf or bindings alone, `GET /` or, for a plugin of responses, one with status 200
    #[arg(long, value_name = "FILE")]
    pub request: Option<PathBuf>,
    /// What the sample call belongs to
    #[command(flatten)]
    pub belongs: Belongs,
    /// The hook that the sample call comes from: before or after the gateway's own plugins
    #[arg(long, value_enum, default_value_t = At::Pre)]
    pub at: At,
    /// Also ask this configuration: plugins.allow, enabled, disabled, settings, and bindings
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Everything as JSON: an array with an object for each file
    #[arg(long)]
    pub json: bool,
}

impl Check {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let sample = self.request.as_ref();
        let sample = sample.map(super::call::sample_in).transpose()?;
        let mut config = self.load()?;
        self.belongs.name_bindings(&mut config)?;
        let options = Options {
            bindings: config.read_bindings()?,
            belongs: self.belongs,
            after: self.at == At::Post,
            config,
            rules: self.config.is_some(),
            metadata_only: self.metadata_only,
            glibc: self.glibc,
            conf: self.conf,
            sample,
        };
        // What plugins log and print goes to stderr; stdout is for the report.
        let style = Style::of(options.config.logging.format, &Sink::Stderr);
        let telemetry = Telemetry::init(Level::Info, style, Sink::Stderr)?;
        let lines = telemetry.lines();
        let files = self.files.iter();
        let mut reports: Vec<_> = files
            .map(|file| check::examine(file, &options, &lines))
            .collect();
        check::compare(&mut reports, &options.config);
        drop(telemetry);
        show(&reports, self.json)?;
        verdict(&reports)
    }

    fn load(&self) -> anyhow::Result<Config> {
        if self.config.is_none() {
            return Ok(Config::default());
        }
        let mut sources = Sources::of_process(self.config.clone(), None)
            .context("cannot tell where this process runs")?;
        sources.needs_plugins = false;
        config::load(&sources).context("the configuration is not usable")
    }
}

fn show(reports: &[Report], json: bool) -> anyhow::Result<()> {
    if json {
        super::say(&serde_json::to_string_pretty(reports)?);
        return Ok(());
    }
    let colours = super::colours();
    let texts: Vec<_> = reports
        .iter()
        .map(|report| check::text(report, colours))
        .collect();
    super::say(&texts.join("\n\n"));
    Ok(())
}

fn verdict(reports: &[Report]) -> anyhow::Result<()> {
    let bad = reports.iter().filter(|report| !report.serves).count();
    match (bad, reports.len()) {
        (0, _) => Ok(()),
        (1, 1) => Err(Failure::new("`start` would not serve this file").into()),
        (bad, all) => {
            Err(Failure::new(format!("`start` would not serve {bad} of {all} files")).into())
        }
    }
}
