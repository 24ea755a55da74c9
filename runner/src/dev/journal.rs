//! What happened lately: requests with what each plugin did, builds, swaps, warnings. Bounded; for the page and the
//! terminal. Who reads it is told when it changes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::request::step::{Decided, Step};

/// Requests and notes that are kept.
const MAX_REQUESTS: usize = 100;
const MAX_NOTES: usize = 50;
/// Calls whose steps nobody has fetched.
const MAX_CALLS: usize = 512;
/// How long a request's line waits for what the runner tells of it.
const PATIENCE: Duration = Duration::from_millis(300);

/// What a note is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// A crate is built.
    Build,
    /// A library serves now.
    Swap,
    /// The runner's own line.
    Info,
    Warning,
    Fault,
}

/// A line that is no request.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Note {
    pub(super) at: u64,
    pub(super) kind: Kind,
    pub(super) text: String,
}

/// One request of a client.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Told {
    /// Counts requests from 1.
    pub(super) number: u64,
    /// Seconds since 1970.
    pub(super) at: u64,
    pub(super) method: String,
    pub(super) target: String,
    /// `None`: the connection was closed.
    pub(super) status: Option<u16>,
    pub(super) hooks: Vec<Hook>,
    #[serde(rename = "took_ms", serialize_with = "milliseconds")]
    pub(super) took: Duration,
}

fn milliseconds<S: serde::Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(took.as_secs_f64() * 1000.0)
}

/// What a hook of the route came to.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Hook {
    /// `pre-req`, `post-req`, `post-resp`, `upstream`.
    pub(super) name: &'static str,
    /// `rewrite`, `stop`, … or the failure.
    pub(super) said: String,
    /// The number of the call.
    pub(super) call: Option<u32>,
    /// What each plugin did, if the runner tells.
    pub(super) steps: Vec<Step>,
}

impl Hook {
    /// In a few words: the plugins that ran, or what the gateway was told.
    pub(super) fn summary(&self) -> String {
        if self.steps.is_empty() {
            return format!("{}: {}", self.name, self.said);
        }
        let mut plugins: Vec<(&str, usize, String)> = Vec::new();
        for step in &self.steps {
            let end = match (step.decision, step.answered()) {
                (Decided::Answer, Some(status)) => format!("answers {status}"),
                (Decided::Error | Decided::Panic, _) => {
                    format!("fails: {}", step.error.as_deref().unwrap_or("?"))
                }
                _ => String::new(),
            };
            let changes = step.changes.iter().filter(|it| !it.is_answer()).count();
            match plugins.last_mut().filter(|(name, ..)| *name == step.plugin) {
                Some((_, sum, known)) => {
                    *sum += changes;
                    *known = end;
                }
                None => plugins.push((&step.plugin, changes, end)),
            }
        }
        let text = |(name, changes, end): &(&str, usize, String)| match (changes, &**end) {
            (_, end) if !end.is_empty() => format!("{name} {end}"),
            (0, _) => (*name).to_owned(),
            (1, _) => format!("{name} (1 change)"),
            (changes, _) => format!("{name} ({changes} changes)"),
        };
        let plugins: Vec<_> = plugins.iter().map(text).collect();
        format!("{}: {}", self.name, plugins.join(", "))
    }
}

/// Everything that is kept.
#[derive(Default)]
struct Kept {
    requests: VecDeque<Told>,
    notes: VecDeque<Note>,
    /// By number of the call: what its plugins did, and whether that is all.
    calls: HashMap<u32, (Vec<Step>, bool)>,
    number: u64,
}

/// The journal.
pub(super) struct Journal {
    kept: Mutex<Kept>,
    /// Counts changes.
    changed: watch::Sender<u64>,
    /// Counts calls whose steps are all there.
    over: watch::Sender<u64>,
    /// The runner tells its steps.
    tells_steps: bool,
}

impl Journal {
    pub(super) fn new(tells_steps: bool) -> Self {
        Self {
            kept: Mutex::default(),
            changed: watch::Sender::default(),
            over: watch::Sender::default(),
            tells_steps,
        }
    }

    /// Changes from now on.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Requests and notes, newest first.
    pub(super) fn lately(&self) -> (Vec<Told>, Vec<Note>) {
        let kept = self.kept();
        let requests = kept.requests.iter().rev().cloned();
        (
            requests.collect(),
            kept.notes.iter().rev().cloned().collect(),
        )
    }

    /// Something that is no request.
    pub(super) fn note(&self, kind: Kind, text: &str) {
        let text = text.to_owned();
        let at = now();
        let mut kept = self.kept();
        if kept.notes.len() == MAX_NOTES {
            kept.notes.pop_front();
        }
        kept.notes.push_back(Note { at, kind, text });
        drop(kept);
        self.changed.send_modify(|count| *count += 1);
    }

    /// A step of a call; `None`: there are no more of it.
    pub(super) fn step(&self, call: u32, step: Option<Step>) {
        let mut kept = self.kept();
        if kept.calls.len() >= MAX_CALLS && !kept.calls.contains_key(&call) {
            kept.calls.clear();
        }
        let (steps, over) = kept.calls.entry(call).or_default();
        match step {
            Some(step) => steps.push(step),
            None => *over = true,
        }
        let over = *over;
        drop(kept);
        if over {
            self.over.send_modify(|count| *count += 1);
        }
    }

    /// Keeps a request with what its plugins did, which arrives a moment after the answer; returns it.
    pub(super) async fn request(&self, mut told: Told) -> Told {
        let calls: Vec<u32> = told.hooks.iter().filter_map(|hook| hook.call).collect();
        if self.tells_steps && !calls.is_empty() {
            let mut over = self.over.subscribe();
            let all_over = over.wait_for(|_| {
                let kept = self.kept();
                let is_over = |call| kept.calls.get(call).is_some_and(|(_, over)| *over);
                calls.iter().all(is_over)
            });
            // A crash or a deadline: some never come.
            let _ = timeout(PATIENCE, all_over).await;
        }
        let mut kept = self.kept();
        for hook in &mut told.hooks {
            let steps = hook.call.and_then(|call| kept.calls.remove(&call));
            hook.steps = steps.unwrap_or_default().0;
        }
        kept.number += 1;
        told.number = kept.number;
        if kept.requests.len() == MAX_REQUESTS {
            kept.requests.pop_front();
        }
        kept.requests.push_back(told.clone());
        drop(kept);
        self.changed.send_modify(|count| *count += 1);
        told
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(plugin: &str, decision: Decided, changes: usize) -> Step {
        Step {
            plugin: plugin.to_owned(),
            decision,
            changes: vec![Default::default(); changes],
            ..Step::default()
        }
    }

    fn told(call: u32) -> Told {
        let hook = Hook {
            name: "pre-req",
            said: "rewrite".into(),
            call: Some(call),
            steps: vec![],
        };
        Told {
            number: 0,
            at: 0,
            method: "GET".into(),
            target: "/".into(),
            status: Some(200),
            hooks: vec![hook],
            took: Duration::ZERO,
        }
    }

    #[tokio::test]
    async fn a_request_gets_the_steps_that_come_after_its_answer() {
        let journal = Journal::new(true);
        let steps = async {
            journal.step(7, Some(step("a", Decided::Continue, 1)));
            journal.step(7, Some(step("a", Decided::Continue, 1)));
            journal.step(7, Some(step("b", Decided::Error, 0)));
            journal.step(7, None);
        };
        let (told, ()) = tokio::join!(journal.request(told(7)), steps);
        assert_eq!(
            told.hooks[0].summary(),
            "pre-req: a (2 changes), b fails: ?"
        );
        assert_eq!(journal.lately().0.len(), 1);
        assert!(journal.kept().calls.is_empty());
    }

    #[tokio::test]
    async fn a_request_whose_steps_never_come_is_told_without_them() {
        let journal = Journal::new(true);
        let told = journal.request(told(8)).await;
        assert_eq!(told.hooks[0].summary(), "pre-req: rewrite");
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded() {
        let journal = Journal::new(false);
        for call in 0..2000 {
            journal.note(Kind::Info, "line");
            journal.step(call, Some(step("a", Decided::Continue, 0)));
            journal.request(told(0)).await;
        }
        let (requests, notes) = journal.lately();
        assert_eq!((requests.len(), notes.len()), (MAX_REQUESTS, MAX_NOTES));
        assert_eq!(requests[0].number, 2000);
        assert!(journal.kept().calls.len() <= MAX_CALLS);
    }
}
