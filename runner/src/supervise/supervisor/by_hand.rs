//! What people decide about builds: back to the one before (`rollback`), away with this one (`quarantine`), and load it
//! again (`release`). Each survives a restart, as it is written down before it is done.

use std::path::Path;

use super::Supervisor;
use crate::supervise::admin::Reply;
use crate::supervise::control::message::ToWorker;
use crate::supervise::workshop::Library;

/// Something that was asked for and waits for another build to be loaded.
#[derive(Debug)]
pub(in crate::supervise) struct ByHand {
    held: Library,
    what: Decision,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Back to the build before; if there is none, what serves goes on.
    RollBack,
    /// This build must not serve; the one before takes over, or nothing.
    Quarantine,
}

impl Decision {
    /// As people read it later.
    fn cause(self) -> &'static str {
        match self {
            Self::RollBack => "it was rolled back by hand (`plugin-runner rollback`)",
            Self::Quarantine => "it was quarantined by hand (`plugin-runner quarantine`)",
        }
    }
}

impl Supervisor {
    pub(super) fn ask_to_hold(&mut self, plugin: &str, what: Decision, reply: Reply) {
        let mut reloading = self.reloading(reply, 0);
        match self.to_hold(plugin, what) {
            Ok(held) => {
                self.wait_for(reloading);
                self.hold_by_hand(held, what);
            }
            Err(fault) => {
                reloading.faults.push(fault);
                reloading.answer();
            }
        }
    }

    /// Loads held builds of a plugin again.
    pub(super) fn ask_for_release(&mut self, plugin: &str, reply: Reply) {
        let mut reloading = self.reloading(reply, 2);
        let released = self.libraries.quarantine.release(plugin);
        if released.is_empty() {
            let known = self.libraries.quarantine.names();
            let fault = format!("nothing of plugin `{plugin}` is quarantined or rolled back");
            reloading.faults.push(fault + &nearest(plugin, &known));
            return reloading.answer();
        }
        for (file, sha256) in released {
            self.libraries.unusable.remove(&sha256);
            self.load_again(vec![file]);
        }
        self.look_for(reloading);
    }

    /// The library that is meant, if it can be held now.
    fn to_hold(&self, plugin: &str, what: Decision) -> Result<Library, String> {
        let held = self.serving_plugin(plugin)?;
        let file = held.file.clone();
        if self.worker.as_ref().is_none_or(|worker| !worker.serving) {
            return Err("there is no worker that serves; try again in a moment".to_owned());
        }
        let mut files = self.libraries.reload.files();
        let state = files.find(|(known, _)| *known == file);
        let state = state.map(|(_, state)| (state.present, state.under_way));
        drop(files);
        if !matches!(state, Some((true, None))) {
            let name = file.display();
            return Err(format!(
                "{name} is being taken up, or gone; try again in a moment"
            ));
        }
        if what == Decision::RollBack && self.libraries.best_for(&file).is_none() {
            return Err(format!(
                "there is no earlier build of {} that has served: generation {} goes on serving plugin `{plugin}`",
                file.display(),
                held.generation
            ));
        }
        Ok(held)
    }

    fn hold_by_hand(&mut self, held: Library, what: Decision) {
        self.quarantine_by_hand(&held, what);
        let file = held.file.clone();
        self.libraries
            .by_hand
            .insert(file.clone(), ByHand { held, what });
        let steps = self.libraries.reload.roll_back(&file);
        self.carry_out(steps);
    }

    fn quarantine_by_hand(&mut self, held: &Library, what: Decision) {
        let offer = self.libraries.offers.get(&held.file);
        let plugins = offer.iter().flat_map(|offer| &offer.plugins);
        let plugins = plugins.map(|plugin| plugin.name.clone()).collect();
        let quarantine = &mut self.libraries.quarantine;
        quarantine.hold(held.sha256, &held.file, plugins, what.cause().to_owned());
        if let Some(refusal) = quarantine.refusal(held.sha256) {
            self.libraries.refusals.insert(held.file.clone(), refusal);
        }
    }

    /// The library that serves a plugin.
    fn serving_plugin(&self, plugin: &str) -> Result<Library, String> {
        let offering = self.files_of(plugin);
        let served = self.libraries.served.get(plugin).cloned();
        let file = served.or_else(|| offering.first().cloned());
        let library = file.and_then(|file| self.libraries.reload.serving(&file).cloned());
        library.ok_or_else(|| self.unknown(plugin))
    }

    /// Another build took the place of a held one.
    pub(super) fn by_hand_loaded(&mut self, file: &Path) {
        let Some(ByHand { held, what }) = self.libraries.by_hand.remove(file) else {
            return;
        };
        if what == Decision::Quarantine {
            let generation = held.generation;
            self.tell_all(&ToWorker::Forbid { generation });
        }
    }

    /// There is no build that could take the place of a held one.
    pub(super) fn nothing_before(&mut self, file: &Path) {
        let Some(ByHand { held, what }) = self.libraries.by_hand.remove(file) else {
            return;
        };
        let name = file.display();
        match what {
            Decision::RollBack => {
                self.libraries.quarantine.release_build(held.sha256);
                self.libraries.refusals.remove(file);
                let fault = format!(
                    "no earlier build of {name} could be loaded: generation {} goes on serving",
                    held.generation
                );
                tracing::warn!("{fault}");
                self.questions.fault(&fault);
            }
            Decision::Quarantine => {
                let steps = self.libraries.reload.withdraw(file);
                self.carry_out(steps);
            }
        }
    }

    /// No new worker gets what was held while the one before it lived.
    pub(super) fn hold_all_quarantined(&mut self) {
        self.libraries.by_hand.clear();
        let files = self.libraries.reload.files();
        let serving: Vec<Library> = files
            .filter_map(|(_, state)| state.serving.cloned())
            .collect();
        for library in serving {
            if self.libraries.quarantine.refusal(library.sha256).is_some() {
                let steps = self.hold(&library);
                self.carry_out(steps);
            }
        }
    }

    /// That there is no such plugin, and which was meant perhaps.
    pub(super) fn unknown(&self, plugin: &str) -> String {
        let offers = self.libraries.offers.values();
        let mut known: Vec<String> = offers
            .flat_map(|offer| &offer.plugins)
            .map(|plugin| plugin.name.clone())
            .collect();
        let files = self.libraries.reload.files();
        let files = files.filter_map(|(file, _)| file.file_name());
        known.extend(files.map(|name| name.to_string_lossy().into_owned()));
        let fault = format!("no library in the plugins folder offers plugin `{plugin}`");
        fault + &nearest(plugin, &known)
    }
}

/// `; did you mean …?`, if one of these names is like it.
fn nearest(name: &str, known: &[String]) -> String {
    let distance = |other: &&String| strsim::damerau_levenshtein(&name.to_lowercase(), other);
    let nearest = known.iter().min_by_key(distance);
    let near = nearest.filter(|other| distance(other) <= name.len().max(3) / 3);
    near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_misspelt_name_is_told_with_the_nearest_one() {
        let known = ["limit-req".to_owned(), "acl".to_owned()];
        assert_eq!(nearest("limit-rec", &known), "; did you mean `limit-req`?");
        assert_eq!(nearest("alc", &known), "; did you mean `acl`?");
        assert_eq!(nearest("something", &known), "");
        assert_eq!(nearest("x", &[]), "");
    }
}
