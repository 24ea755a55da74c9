//! SIGHUP: what of the configuration can change while running. A file with faults changes nothing.

use super::Supervisor;
use crate::config::{self, Config, Sources};
use crate::supervise::control::message::ToWorker;
use crate::telemetry;

impl Supervisor {
    /// Reads the configuration again and takes up the log level; says so when other keys have changed.
    pub(super) fn reread(&mut self) {
        let Some(new) = self.read_again() else { return };
        let mut rest = new.clone();
        rest.logging.level = self.config.logging.level;
        if rest != self.config {
            tracing::warn!(
                "the configuration has changed in more than `logging.level`: the rest needs a restart of the runner"
            );
        }
        let level = new.logging.level;
        if level != self.config.logging.level {
            self.config.logging.level = level;
            telemetry::set_level(level);
            self.tell(ToWorker::LogLevel(level));
            tracing::info!("log level {level:?} from now on");
        }
    }

    fn read_again(&self) -> Option<Config> {
        // Without a file there is nothing that could have changed: the environment is as old as the process.
        let file = self.config.file.clone()?;
        let sources = Sources::of_process(Some(file), self.config.plugins.dir.clone()).ok()?;
        config::load(&sources)
            .inspect_err(|faults| tracing::error!("the configuration stays as it was: {faults}"))
            .ok()
    }
}
