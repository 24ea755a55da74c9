//! What a library's own code does, in a process that is thrown away: opened, started and configured as the runner does it.

use std::path::Path;
use std::time::Instant;

use super::finding::Finding;
use super::{Options, Report, kinds};
use crate::dev::frames;
use crate::supervise::trial::{self, Tried};
use crate::telemetry::Lines;

/// The key that confs have here.
pub(super) const ROUTE_KEY: &str = "route#check#ext-plugin-pre-req#1";

/// Tries it, and configures it with `options.conf` or, if it takes that, with nothing.
pub(super) fn probe(file: &Path, options: &Options, lines: &Lines, report: &mut Report) {
    let confs = confs(options, report);
    let started = Instant::now();
    let tried = trial::probe(&options.config, file, confs, lines);
    report.probe_ms = Some(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
    match tried {
        Tried::Passed(refusals) => {
            // It was opened: what it needs was found, wherever it is.
            report
                .findings
                .retain(|finding| finding.id != kinds::MISSING_LIBRARY.id);
            for refusal in refusals {
                let reason = refusal.strip_prefix(ROUTE_KEY).unwrap_or(&refusal);
                let reason = reason.trim_start_matches(": ").to_owned();
                report.add(Finding::new(&kinds::CONF_REFUSED, reason));
            }
        }
        Tried::Refused(refusal) => {
            report.add(Finding::new(&kinds::REFUSED, refusal.cause).mended_by(refusal.hint))
        }
        Tried::Ended(cause) => report.add(Finding::new(&kinds::CRASHED, cause)),
        Tried::Late(cause) => report.add(Finding::new(&kinds::HUNG, cause)),
        Tried::Impossible(cause) => report.add(Finding::new(&kinds::NOT_PROBED, cause)),
    }
}

fn confs(options: &Options, report: &Report) -> Vec<Vec<u8>> {
    let Some(conf) = &options.conf else {
        return Vec::new();
    };
    let names = report.plugins.iter().map(|about| about.name.clone());
    names
        .map(|name| frames::prepare_conf(ROUTE_KEY, &[(name, conf.clone())]))
        .collect()
}
