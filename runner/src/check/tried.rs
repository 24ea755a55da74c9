//! What a library's own code does, in processes that are thrown away: opened, started and configured as the runner does it
//! in its probe; then, in a rehearsal, asked for its schema and run through a sample call.

use std::path::Path;
use std::time::Instant;

use super::finding::Finding;
use super::{Called, Options, Report, kinds};
use crate::call::{self, Outcome, Run, Sample};
use crate::config::Binding;
use crate::dev::frames;
use crate::plugins::instance::Purpose;
use crate::request::binder;
use crate::supervise::rehearsal::{Broken, Copy, Rehearsed};
use crate::supervise::trial::{self, Tried};
use crate::supervise::workshop::Refusal;
use crate::telemetry::Lines;

/// How often the sample call is run again, to time it; it ends earlier if that takes long.
const AGAIN: u32 = 100;
/// The key that confs have in the probe.
const ROUTE_KEY: &str = "route#check#ext-plugin-pre-req#1";

/// Tries it, and configures it with `options.conf` if there is one.
pub(super) fn probe(file: &Path, options: &Options, lines: &Lines, report: &mut Report) {
    let confs = confs(options, report);
    let started = Instant::now();
    let tried = trial::probe(&options.config, file, confs, lines);
    report.probe_ms = Some(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
    let finding = match tried {
        Tried::Passed(refusals) => return passed(file, options, lines, report, refusals),
        Tried::Refused(refusal) => refused(refusal),
        Tried::Ended(cause) => Finding::new(&kinds::CRASHED, cause),
        Tried::Late(cause) => Finding::new(&kinds::HUNG, cause),
        Tried::Impossible(cause) => Finding::new(&kinds::NOT_PROBED, cause),
    };
    report.add(finding);
}

fn passed(
    file: &Path,
    options: &Options,
    lines: &Lines,
    report: &mut Report,
    refusals: Vec<String>,
) {
    // It was opened: what it needs was found, wherever it is.
    report
        .findings
        .retain(|finding| finding.id != kinds::MISSING_LIBRARY.id);
    for refusal in &refusals {
        let reason = refusal.strip_prefix(ROUTE_KEY).unwrap_or(refusal);
        let reason = reason.trim_start_matches(": ");
        report.add(Finding::new(&kinds::CONF_REFUSED, reason));
    }
    rehearse(file, options, refusals.is_empty(), lines, report);
}

/// As the runner would: those of routes, then those of bindings.
fn confs(options: &Options, report: &Report) -> Vec<Vec<u8>> {
    let names = report.plugins.iter().map(|about| about.name.clone());
    let of_route = options.conf.iter().flat_map(|conf| {
        let names = names.clone();
        names.map(|name| frames::prepare_conf(ROUTE_KEY, &[(name, conf.clone())]))
    });
    let bindings = bindings(options, report);
    let of_bindings = bindings.map(|binding| {
        let (name, value) = (binding.plugin.clone(), binding.config.to_string());
        frames::prepare_conf(&binding_key(binding), &[(name, value)])
    });
    of_route.chain(of_bindings).collect()
}

/// Those of its plugins.
fn bindings<'a>(options: &'a Options, report: &Report) -> impl Iterator<Item = &'a Binding> {
    let names = report.plugins.iter().map(|about| about.name.clone());
    let names: Vec<String> = names.collect();
    let bindings = options.bindings.iter();
    bindings.filter(move |binding| names.contains(&binding.plugin))
}

/// The runner's key of a binding, and where it stands.
fn binding_key(binding: &Binding) -> String {
    let key = binder::conf(binding).route_key;
    format!("line {} of the bindings ({key})", binding.line)
}

/// The linker's own refusals are mended elsewhere than in the plugin's code, and its hint is for who has not asked `check`.
fn refused(refusal: Refusal) -> Finding {
    let Refusal { cause, hint } = refusal;
    if cause.contains("undefined symbol") {
        return Finding::new(&kinds::UNDEFINED, cause);
    }
    if cause.contains("cannot open shared object file") {
        let hint = kinds::MISSING_LIBRARY.mend.to_owned();
        return Finding::new(&kinds::REFUSED, cause).mended_by(Some(hint));
    }
    Finding::new(&kinds::REFUSED, cause).mended_by(hint)
}

/// Asks for the schema and, if a configuration or a sample was given, runs a call.
fn rehearse(file: &Path, options: &Options, calls: bool, lines: &Lines, report: &mut Report) {
    let sample = sample(options, report).filter(|_| calls);
    let bound: Vec<Binding> = match &sample {
        Some(sample) => {
            let its = bindings(options, report).cloned().collect();
            options.belongs.applying(its, sample.hook())
        }
        None => Vec::new(),
    };
    // What bindings configure needs no conf of the route's own, which would replace them.
    let has_bindings = bindings(options, report).next().is_some();
    let conf = options.conf.clone();
    let conf = conf.or_else(|| (!has_bindings).then(String::new));
    let names = report.plugins.iter().map(|about| about.name.clone());
    let names = names.filter(|_| sample.is_some());
    let chain: Vec<_> = names
        .filter_map(|name| Some((name, conf.clone()?)))
        .collect();
    let copy = match Copy::of(file, 1) {
        Ok(copy) => copy,
        Err(refusal) => return report.add(refused(refusal)),
    };
    let run = Run {
        config: &options.config,
        purpose: Purpose::Check,
        libraries: vec![copy],
        chain: &chain,
        bindings: bound.clone(),
        sample: sample.as_ref(),
        again: AGAIN,
    };
    match call::run(run, lines) {
        Ok(rehearsed) => {
            told(&rehearsed, sample.as_ref(), report);
            if let (Some(call), Some(sample)) = (&mut report.call, &sample) {
                call.bound = call::bound(&bound, rehearsed.configured.as_ref());
                call.note = options.belongs.note(sample.hook());
            }
        }
        Err(error) => report.add(Finding::new(&kinds::CALL_FAILED, error.to_string())),
    }
}

/// The call that was asked for; with a configuration and without a call, any.
fn sample(options: &Options, report: &Report) -> Option<Sample> {
    let configured = options.conf.is_some() || bindings(options, report).next().is_some();
    let sample = options.sample.clone();
    let mut sample = sample.or_else(|| configured.then(|| any_sample(report)).flatten())?;
    if options.after && !sample.is_response() {
        sample.set_after();
    }
    options.belongs.say_to(&mut sample);
    Some(sample)
}

/// A call that the plugin has a phase for.
fn any_sample(report: &Report) -> Option<Sample> {
    let phases: Vec<_> = report
        .plugins
        .iter()
        .flat_map(|about| &about.phases)
        .collect();
    let has = |these: [&str; 2]| phases.iter().any(|phase| these.contains(&phase.as_str()));
    match has(["header_filter", "body_filter"]) && !has(["rewrite", "access"]) {
        true => Sample::response(200).ok(),
        false => Sample::request("GET", "/").ok(),
    }
}

fn told(rehearsed: &Rehearsed, sample: Option<&Sample>, report: &mut Report) {
    let schema = rehearsed
        .started
        .first()
        .map(|started| started.schema.clone());
    report.schema = schema.filter(|schema| !schema.is_null());
    match &rehearsed.broken {
        Some(Broken::Refused(refusal)) => report.add(refused(refusal.clone())),
        Some(Broken::Ended(cause)) => report.add(Finding::new(&kinds::CRASHED, cause)),
        Some(Broken::Late(cause)) => report.add(Finding::new(&kinds::HUNG, cause)),
        Some(Broken::Impossible(cause)) => report.add(Finding::new(&kinds::NOT_PROBED, cause)),
        None => {}
    }
    let configured = rehearsed
        .configured
        .iter()
        .flat_map(|configured| &configured.plugins);
    let refusals: Vec<_> = configured
        .filter_map(|(_, refusal)| refusal.clone())
        .collect();
    if let (Some(sample), Some(called)) = (sample, &rehearsed.called) {
        let outcome = Outcome::of(&rehearsed.reply);
        if outcome == Outcome::Error && refusals.is_empty() {
            report.add(Finding::new(
                &kinds::CALL_FAILED,
                failure(rehearsed, sample),
            ));
        }
        undeclared(rehearsed, report);
        report.call = Some(Called {
            call: sample.title(),
            bound: Vec::new(),
            note: None,
            outcome,
            took_ns: called.took_ns,
            again: rehearsed.timed,
        });
    }
    for refusal in refusals {
        report.add(Finding::new(&kinds::CONF_REFUSED, refusal));
    }
}

fn failure(rehearsed: &Rehearsed, sample: &Sample) -> String {
    let mut steps = rehearsed.steps.iter();
    let step = steps.find(|step| step.decision.is_failure());
    let reason = step.map(|step| {
        let error = step.error.as_deref().unwrap_or("it did not say why");
        format!("in {}: {error}", step.phase)
    });
    let reason = reason.unwrap_or_else(|| "as the reply is too large".to_owned());
    format!("{} failed {reason}", sample.title())
}

fn undeclared(rehearsed: &Rehearsed, report: &mut Report) {
    let asked = rehearsed.steps.iter().flat_map(|step| {
        let phase = &step.phase;
        step.asked
            .iter()
            .map(move |asked| format!("{asked} in {phase}"))
    });
    let asked: Vec<_> = asked.collect();
    if !asked.is_empty() {
        let what = format!("it asked undeclared questions: {}", asked.join(", "));
        report.add(Finding::new(&kinds::UNDECLARED, what));
    }
}
