//! Older builds that confs stay on, as newer ones have refused them: loaded again in the next worker, for these confs alone.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::Supervisor;
use crate::request::assign::Stay;
use crate::supervise::control::message::ToWorker;
use crate::supervise::reload::Suspect;
use crate::supervise::spawn::Worker;
use crate::supervise::workshop::{Library, Refusal, Sha256};

/// Which chains have plugins on older builds.
#[derive(Debug, Default)]
pub(in crate::supervise) struct Older {
    stays: HashMap<Sha256, Vec<Stay>>,
    /// Builds that the new worker was told to load and has not answered for, oldest first.
    in_flight: VecDeque<u64>,
}

impl Older {
    /// A worker says on what the plugins of a chain stay.
    pub(super) fn note(&mut self, conf: Sha256, on: Vec<Stay>) {
        match on.is_empty() {
            true => drop(self.stays.remove(&conf)),
            false => drop(self.stays.insert(conf, on)),
        }
    }

    /// The new worker was told to load these.
    pub(super) fn loads(&mut self, generations: Vec<u64>) {
        self.in_flight = generations.into();
    }

    /// Whether the new worker has loaded or refused all of them.
    pub(super) fn is_loaded(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// The builds.
    pub(super) fn generations(&self) -> BTreeSet<u64> {
        let stays = self.stays.values().flatten();
        stays.map(|stay| stay.generation).collect()
    }

    /// Whether this was a load of one of them, which is over now.
    fn answered(&mut self, generation: u64) -> bool {
        let before = self.in_flight.len();
        self.in_flight.retain(|other| *other != generation);
        self.in_flight.len() < before
    }

    /// A build cannot be had any more.
    fn give_up(&mut self, generation: u64) {
        self.stays.retain(|_, stays| {
            stays.retain(|stay| stay.generation != generation);
            !stays.is_empty()
        });
    }

    /// Of what the worker ended, after those that may have ended it were given up: which they are, and of what else it may
    /// have.
    fn worker_ended(&mut self, suspect: Suspect) -> (Option<u64>, Suspect) {
        let in_flight = std::mem::take(&mut self.in_flight);
        let (guilty, suspect) = match suspect {
            Suspect::Load(generation) if in_flight.contains(&generation) => {
                (Some(generation), Suspect::Nobody)
            }
            // They are loaded before all others.
            Suspect::Unknown if !in_flight.is_empty() => {
                (in_flight.front().copied(), Suspect::Nobody)
            }
            other => (None, other),
        };
        guilty
            .into_iter()
            .for_each(|generation| self.give_up(generation));
        (guilty, suspect)
    }
}

impl Supervisor {
    /// A new worker gets the builds that confs stay on, before what serves, and what they are for. Which builds.
    pub(super) fn load_older(&self, worker: &Worker) -> Vec<u64> {
        let mut generations = Vec::new();
        for library in self.libraries.older_needed() {
            generations.push(library.generation);
            self.load_in(worker, library, ToWorker::LoadOlder);
        }
        for (conf, on) in &self.libraries.older.stays {
            let (conf, on) = (*conf, on.clone());
            worker.tell(ToWorker::Stays { conf, on });
        }
        generations
    }

    /// On which older builds the worker that serves has the plugins of a chain.
    pub(super) fn stays(&mut self, conf: Sha256, on: Vec<Stay>) {
        if let Some(next) = self.recycles.next() {
            let on = on.clone();
            next.tell(ToWorker::Stays { conf, on });
        }
        self.libraries.older.note(conf, on);
    }

    /// Whether this answers the load of an older build, in which nothing is left to do then.
    pub(super) fn older_loaded(&mut self, generation: u64) -> bool {
        let is_older = self.libraries.older.answered(generation);
        if is_older {
            tracing::debug!(
                generation,
                "loaded again for confs that its successor refuses"
            );
        }
        is_older
    }

    /// The same, when it is refused: the confs fail that need it.
    pub(super) fn older_refused(&mut self, generation: u64, refusal: &Refusal) -> bool {
        let is_older = self.libraries.older.answered(generation);
        if is_older {
            self.libraries.older.give_up(generation);
            self.log_older_lost(generation, &refusal.cause);
        }
        is_older
    }

    /// Gives up what may have ended the worker while it was loaded again; of what else it may have ended.
    pub(super) fn older_worker_ended(&mut self, suspect: Suspect) -> Suspect {
        let (guilty, suspect) = self.libraries.older.worker_ended(suspect);
        if let Some(generation) = guilty {
            self.log_older_lost(generation, "the worker ended while it was loaded again");
        }
        suspect
    }

    fn log_older_lost(&self, generation: u64, cause: &str) {
        let library = self.library_of(generation);
        let file = library.map(|library| library.file.display().to_string());
        tracing::error!(
            generation,
            library = file,
            cause,
            hint = "put a build in its place that accepts these confs, or mend the confs",
            "an older build is lost: the confs fail that only it accepted"
        );
    }
}

impl super::Libraries {
    /// The builds that confs stay on and that serve nothing else, oldest first; but for those that are quarantined.
    pub(super) fn older_needed(&self) -> Vec<Library> {
        let generations = self.older.generations();
        let kept = self.retired.iter().chain(self.reload.previous());
        let needed = kept.filter(|library| {
            generations.contains(&library.generation)
                && self.quarantine.refusal(library.sha256).is_none()
        });
        let mut needed: Vec<_> = needed.cloned().collect();
        needed.sort_by_key(|library| library.generation);
        needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn older(generations: &[u64]) -> Older {
        let mut older = Older::default();
        for (n, generation) in generations.iter().enumerate() {
            let generation = *generation;
            let conf = Sha256([n as u8; 32]);
            older.note(
                conf,
                vec![Stay {
                    index: 0,
                    generation,
                }],
            );
            older.in_flight.push_back(generation);
        }
        older
    }

    #[test]
    fn a_build_is_needed_as_long_as_a_conf_stays_on_it() {
        let mut older = older(&[3, 3, 5]);
        assert_eq!(older.generations(), BTreeSet::from([3, 5]));
        older.note(Sha256([0; 32]), Vec::new());
        assert_eq!(older.generations(), BTreeSet::from([3, 5]));
        older.note(Sha256([1; 32]), Vec::new());
        assert_eq!(older.generations(), BTreeSet::from([5]));
    }

    #[test]
    fn what_ended_a_worker_while_it_was_loaded_again_is_given_up() {
        let mut loading = older(&[3, 5]);
        let ended = loading.worker_ended(Suspect::Load(5));
        assert_eq!(ended, (Some(5), Suspect::Nobody));
        assert_eq!(loading.generations(), BTreeSet::from([3]));
        let mut loading = older(&[3, 5]);
        let ended = loading.worker_ended(Suspect::Unknown);
        assert_eq!(ended, (Some(3), Suspect::Nobody));
        let mut loaded = older(&[3]);
        assert!(loaded.answered(3) && loaded.is_loaded());
        let ended = loaded.worker_ended(Suspect::Unknown);
        assert_eq!(ended, (None, Suspect::Unknown));
        assert_eq!(loaded.generations(), BTreeSet::from([3]));
    }
}
