//! What of the configuration can change while running. A file with faults changes nothing.

use serde_json::Value;

use super::Supervisor;
use crate::config::{self, Config, Sources};

/// What came of reading it again, a line each.
#[derive(Debug, Default)]
pub(super) struct Reread {
    pub(super) lines: Vec<String>,
    pub(super) faults: Vec<String>,
}

impl Supervisor {
    /// SIGHUP: reads it again, and logs what is not taken up.
    pub(super) fn log_reread(&mut self) {
        for fault in self.reread().faults {
            tracing::warn!("{fault}");
        }
    }

    /// Reads the configuration again and takes up the log level; names the other keys that have changed.
    pub(super) fn reread(&mut self) -> Reread {
        let mut reread = Reread::default();
        self.reread_bindings(&mut reread);
        let new = match self.read_again() {
            Ok(Some(new)) => new,
            Ok(None) => return reread,
            Err(fault) => {
                reread.faults.push(fault);
                return reread;
            }
        };
        let level = new.logging.level;
        if level != self.config.logging.level {
            self.take_level(level);
            let line = format!("logging.level: {} from now on", level.name());
            reread.lines.push(line);
        }
        let changed = changed_keys(&self.config, &new);
        if !changed.is_empty() {
            let keys = changed.join(", ");
            let fault = format!("these keys have changed and need a restart of the runner: {keys}");
            reread.faults.push(fault);
        }
        reread
    }

    fn read_again(&self) -> Result<Option<Config>, String> {
        // Without a file there is nothing that could have changed: the environment is as old as the process.
        let Some(file) = self.config.file.clone() else {
            return Ok(None);
        };
        let sources = Sources::of_process(Some(file), self.config.plugins.dir.clone());
        let sources =
            sources.map_err(|cause| format!("the configuration cannot be read: {cause}"))?;
        let read = config::load(&sources);
        read.map(Some)
            .map_err(|faults| format!("the configuration stays as it was: {faults}"))
    }
}

/// `section.key` of every key that differs.
fn changed_keys(old: &Config, new: &Config) -> Vec<String> {
    let (old, new) = (serde_json::to_value(old), serde_json::to_value(new));
    let (Ok(Value::Object(old)), Ok(Value::Object(new))) = (old, new) else {
        return Vec::new();
    };
    let mut changed = Vec::new();
    for (section, old) in &old {
        let (Value::Object(old), Some(Value::Object(new))) = (old, new.get(section)) else {
            continue;
        };
        let keys = old
            .iter()
            .filter(|(key, value)| new.get(*key) != Some(*value));
        changed.extend(keys.map(|(key, _)| format!("{section}.{key}")));
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_keys_are_named() {
        let old = Config::default();
        let mut new = old.clone();
        assert_eq!(changed_keys(&old, &new), [""; 0]);
        new.worker.threads = 3;
        new.plugins.disabled.push("x".to_owned());
        assert_eq!(
            changed_keys(&old, &new),
            ["plugins.disabled", "worker.threads"]
        );
    }
}
