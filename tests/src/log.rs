//! What a child process says, line by line, as it says it.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::wait::DEADLINE;

/// The lines so far, and a way to wait for more.
#[derive(Clone, Default)]
pub struct Log(Arc<Shared>);

#[derive(Default)]
struct Shared {
    lines: Mutex<Vec<String>>,
    grew: Condvar,
}

impl Log {
    /// Collects what can be read until it ends, on a thread of its own.
    pub fn of(source: impl Read + Send + 'static) -> Self {
        let log = Self::default();
        let writer = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
                writer.push(String::from_utf8_lossy(&line).into_owned());
            }
        });
        log
    }

    fn push(&self, line: String) {
        let mut lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(line);
        self.0.grew.notify_all();
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        let lines = self.0.lines.lock();
        lines.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The lines so far that contain the text.
    pub fn with(&self, text: &str) -> Vec<String> {
        let mut lines = self.lines();
        lines.retain(|line| line.contains(text));
        lines
    }

    /// Waits for a line that contains all of these.
    ///
    /// # Panics
    /// No such line came in time.
    #[track_caller]
    pub fn wait_for(&self, parts: &[&str]) -> String {
        self.wait_for_nth(0, parts)
    }

    /// Waits for one more line that contains all of these than `earlier`.
    ///
    /// # Panics
    /// No such line came in time.
    #[track_caller]
    pub fn wait_for_nth(&self, earlier: usize, parts: &[&str]) -> String {
        let lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let matches = |line: &&String| parts.iter().all(|part| line.contains(part));
        let missing = |lines: &mut Vec<String>| lines.iter().filter(matches).count() <= earlier;
        let waited = self.0.grew.wait_timeout_while(lines, DEADLINE, missing);
        let (lines, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let found = lines.iter().filter(matches).nth(earlier).cloned();
        drop(lines);
        found.unwrap_or_else(|| panic!("no line of the log has {parts:?}"))
    }
}
