//! Lets new libraries be probed, and takes up what the probes say.

use std::sync::Arc;
use std::time::Instant;

use super::Supervisor;
use crate::supervise::prober::{Confs, Job, ProbeReport, Verdict};
use crate::supervise::workshop::{Library, Refusal};

impl Supervisor {
    pub(super) fn probe(&mut self, library: Library) {
        let generation = library.generation;
        let again = self.libraries.probe_again.remove(&library.file);
        let Some(prober) = &self.libraries.prober else {
            let steps = self.libraries.reload.passed(generation);
            return self.carry_out(steps);
        };
        match self.libraries.descriptor(&library) {
            Ok(memory) => prober.examine(Job {
                library,
                memory,
                confs: self.live_confs(),
                start: self.outset(),
                again,
            }),
            Err(cause) => {
                let refusal = Refusal {
                    cause: format!("it cannot be probed: {cause}"),
                    hint: Some("it is tried again later".to_owned()),
                };
                let verdict = Verdict::Unknown(refusal);
                self.probed(ProbeReport {
                    generation,
                    verdict,
                });
            }
        }
    }

    /// Those of routes, and those of bindings.
    fn live_confs(&self) -> Confs {
        let of_routes = self.tokens.live().map(|(_, conf)| Arc::clone(conf));
        of_routes.chain(self.bindings.payloads()).collect()
    }

    pub(super) fn probed(&mut self, report: ProbeReport) {
        let generation = report.generation;
        let Some((library, hangs)) = self.libraries.reload.probing(generation) else {
            return;
        };
        let library = library.clone();
        let steps = match report.verdict {
            Verdict::Passed(refusals) => {
                // The worker warns of them, as it knows what goes on serving them.
                for refusal in refusals {
                    let file = library.file.display();
                    tracing::debug!(generation, "{file} refuses a conf: {refusal}");
                }
                self.libraries.reload.passed(generation)
            }
            Verdict::Refused(refusal) => {
                self.refuse(&library, &refusal);
                self.libraries.reload.failed(generation)
            }
            Verdict::Unknown(refusal) => {
                self.libraries.unusable.insert(library.sha256);
                if hangs == 0 {
                    self.refuse(&library, &refusal);
                }
                self.libraries.reload.unknown(Instant::now(), generation)
            }
        };
        self.carry_out(steps);
    }
}
