//! When a worker is due to be recycled without being asked. Pure.

use std::fmt;
use std::time::{Duration, Instant};

use crate::config;

/// The longest pause between two recycles that do not help.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Why a worker is recycled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// Somebody asked for it.
    Asked,
    /// The path of the socket is not ours any more: the next worker gets a new socket.
    Socket,
    /// It holds this many builds that serve no more.
    Generations(usize),
    /// It takes this many bytes.
    Memory(u64),
    /// This many of its threads hang.
    StuckThreads(usize),
    /// This many libraries have not come back from their start.
    HungStarts(usize),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => write!(f, "it was asked for"),
            Self::Socket => write!(f, "it needs another socket"),
            Self::Generations(count) => {
                write!(f, "{count} replaced builds of libraries are in its memory")
            }
            Self::Memory(bytes) => write!(f, "it takes {} MiB of memory", bytes >> 20),
            Self::StuckThreads(count) => {
                write!(
                    f,
                    "{count} of its threads hang after the deadline of their calls"
                )
            }
            Self::HungStarts(count) => {
                write!(f, "{count} libraries hang in their start in it")
            }
        }
    }
}

/// How much a worker has gathered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) generations: usize,
    /// Resident bytes, if the system tells.
    pub(super) memory: Option<u64>,
    pub(super) stuck_threads: usize,
    pub(super) hung_starts: usize,
}

/// Which budget of the configuration this is beyond.
pub(super) fn exceeded(load: Load, config: &config::Worker) -> Option<Reason> {
    let memory = load.memory.zip(config.recycle_memory());
    if load.stuck_threads >= config.recycle_stuck_threads {
        Some(Reason::StuckThreads(load.stuck_threads))
    } else if load.hung_starts > 0 {
        Some(Reason::HungStarts(load.hung_starts))
    } else if let Some((memory, _)) = memory.filter(|(memory, budget)| memory >= budget) {
        Some(Reason::Memory(memory))
    } else if load.generations >= config.recycle_generations {
        Some(Reason::Generations(load.generations))
    } else {
        None
    }
}

/// Keeps recycles that nobody asked for apart, and ever further while they do not help.
#[derive(Debug)]
pub(super) struct Pace {
    least: Duration,
    pause: Duration,
    last: Option<Instant>,
}

impl Pace {
    /// With at least this long between two.
    pub(super) fn new(least: Duration) -> Self {
        Self {
            least,
            pause: least,
            last: None,
        }
    }

    /// Whether there may be one now. If so, it counts.
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        let since = self.last.map(|last| now.saturating_duration_since(last));
        self.pause = match since {
            Some(since) if since < self.pause => return false,
            // It was due again as soon as it could be: the one before did not help.
            Some(since) if since < self.pause * 2 => LONGEST.max(self.least).min(self.pause * 2),
            _ => self.least,
        };
        self.last = Some(now);
        true
    }

    /// How long until the next one may be.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        let next = self.last.map(|last| last + self.pause);
        next.map_or(Duration::ZERO, |next| next.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_urgent_budget_is_named_and_none_within_them() {
        let config = config::Worker {
            memory_limit: Some(400 << 20),
            ..config::Worker::default()
        };
        let mut load = Load {
            generations: 99,
            memory: Some((300 << 20) - 1),
            stuck_threads: 31,
            hung_starts: 0,
        };
        assert_eq!(exceeded(load, &config), None);
        load.generations += 1;
        assert_eq!(exceeded(load, &config), Some(Reason::Generations(100)));
        load.memory = Some(300 << 20);
        assert_eq!(exceeded(load, &config), Some(Reason::Memory(300 << 20)));
        load.hung_starts += 1;
        assert_eq!(exceeded(load, &config), Some(Reason::HungStarts(1)));
        load.stuck_threads += 1;
        assert_eq!(exceeded(load, &config), Some(Reason::StuckThreads(32)));
    }

    #[test]
    fn what_does_not_help_becomes_rare_and_never_a_loop() {
        let minute = Duration::from_secs(60);
        let mut pace = Pace::new(minute);
        let start = Instant::now();
        let mut recycles = Vec::new();
        for second in 0..24 * 3600 {
            let now = start + Duration::from_secs(second);
            if pace.admit(now) {
                recycles.push(second / 60);
            }
        }
        assert_eq!(recycles, [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 1023]);
    }

    #[test]
    fn after_a_quiet_time_it_starts_over() {
        let minute = Duration::from_secs(60);
        let mut pace = Pace::new(minute);
        let start = Instant::now();
        assert!(pace.admit(start));
        assert!(pace.admit(start + minute));
        assert!(!pace.admit(start + 2 * minute));
        assert!(pace.admit(start + 9 * minute));
        assert_eq!(pace.wait(start + 9 * minute), minute);
        assert!(pace.admit(start + 10 * minute));
    }
}
