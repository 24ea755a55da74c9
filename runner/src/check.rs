//! `plugin-runner check`: whether `start` would serve a library, and what else its author should know. Judges a file
//! from its bytes first; its code runs in a probe, never in this process, and with `metadata_only` nowhere.
//!
//! `file → facts → metadata → machine → probe → sample`, each step adds findings; an error ends what cannot go on.

mod facts; // what the bytes say
mod finding; // one finding: what it means, how to mend it
mod glibc; // versions of the C library
mod kinds; // every kind of finding
mod machine; // what this machine has
mod paths; // folders of the machine that built it
mod report; // for people
mod tried; // what its own code does

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

pub use finding::{Finding, Level};
pub use glibc::Glibc;
pub use report::text;

use crate::call::{Belongs, Bound, Outcome, Sample};
use crate::config::{Binding, Config};
use crate::plugins::metadata::About;
use crate::supervise::rehearsal::Timed;
use crate::telemetry::Lines;

/// What to look at, beside the file.
#[derive(Debug)]
pub struct Options {
    /// What `start` would be configured with.
    pub config: Config,
    /// `--config` was given: the rules of it count.
    pub rules: bool,
    /// Run nothing of the file.
    pub metadata_only: bool,
    /// Judge for this version of the C library, and not this machine's.
    pub glibc: Option<Glibc>,
    /// Configure the plugin with this.
    pub conf: Option<String>,
    /// Run this call through it.
    pub sample: Option<Sample>,
    /// Those that name its plugin configure it, and apply to the sample call. Others are of plugins that are not here.
    pub bindings: Vec<Binding>,
    /// What the sample call belongs to.
    pub belongs: Belongs,
    /// The sample call comes after the gateway's own plugins.
    pub after: bool,
}

/// A sample call.
#[derive(Debug, Serialize)]
pub struct Called {
    /// `GET /`
    pub call: String,
    /// The bindings that may apply to it.
    pub bound: Vec<Bound>,
    /// What else is to say of it.
    pub note: Option<String>,
    /// What came of it.
    pub outcome: Outcome,
    /// Nanoseconds of the first one.
    pub took_ns: u64,
    /// The same call again.
    pub again: Option<Timed>,
}

/// All that is known of a file.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// As it was named.
    pub file: PathBuf,
    /// Whether `start` would serve it.
    pub serves: bool,
    /// Nothing of it ran.
    pub metadata_only: bool,
    /// Bytes.
    pub size: u64,
    /// Its tables could be read; else nothing but its size is known.
    #[serde(skip)]
    pub is_read: bool,
    /// Bytes of debug information among them.
    pub debug_info: u64,
    /// Hash of the file, as `plugins.allow` wants it.
    pub sha256: String,
    /// ABI that it was built for.
    pub abi: Option<String>,
    /// Version of plugin-api that it was built with.
    pub plugin_api: Option<String>,
    /// The compiler that built it.
    pub rustc: Option<String>,
    /// What it was built for.
    pub target: Option<String>,
    /// `unwind` or `abort`.
    pub panic: Option<&'static str>,
    /// The oldest C library that has all it needs.
    pub glibc: Option<Glibc>,
    /// Shared libraries that it needs.
    pub needed: Vec<String>,
    /// Symbols that others can see.
    pub exported: Vec<String>,
    /// What it offers.
    pub plugins: Vec<About>,
    /// The JSON Schema of its configuration; only its code can tell.
    pub schema: Option<Value>,
    /// Milliseconds that its probe took.
    pub probe_ms: Option<u64>,
    /// The sample call.
    pub call: Option<Called>,
    /// What is to say about it, the gravest first.
    pub findings: Vec<Finding>,
}

impl Report {
    fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    fn is_bad(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.level == Level::Error)
    }
}

/// Looks at a file. With a probe it takes as long as the library's own code takes; see `plugins.probe_deadline`.
pub fn examine(file: &Path, options: &Options, lines: &Lines) -> Report {
    let mut report = Report {
        file: file.to_owned(),
        metadata_only: options.metadata_only,
        ..Report::default()
    };
    if let Some(bytes) = facts::read(file, &mut report)
        && facts::describe(&bytes, options, &mut report)
    {
        facts::rules(file, options, &mut report);
        if !options.metadata_only && !report.is_bad() {
            tried::probe(file, options, lines, &mut report);
        }
    }
    finish(&mut report);
    report
}

/// Of two libraries that offer one plugin, neither serves at a cold start.
pub fn compare(reports: &mut [Report], config: &Config) {
    let offers: Vec<(String, PathBuf)> = reports
        .iter()
        .flat_map(|report| {
            let file = &report.file;
            report
                .plugins
                .iter()
                .map(|about| (about.name.clone(), file.clone()))
        })
        .collect();
    for report in reports {
        let name = report.plugins.first().map(|about| about.name.clone());
        let Some(name) = name.filter(|name| !config.plugins.files.contains_key(name)) else {
            continue;
        };
        let other = offers
            .iter()
            .find(|(offer, file)| *offer == name && *file != report.file);
        if let Some((_, other)) = other {
            let what = format!("{} offers plugin `{name}` too", other.display());
            report.add(Finding::new(&kinds::SAME_NAME, what));
            finish(report);
        }
    }
}

fn finish(report: &mut Report) {
    report.findings.sort_by_key(|finding| finding.level);
    report.serves = !report.is_bad();
}
