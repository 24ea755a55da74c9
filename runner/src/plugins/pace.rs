//! Where a generation's code may run: on the event loop, or on blocking threads.
//!
//! A new generation starts on threads. After [`TRIAL`] quick calls without an undeclared question it moves to the
//! loop, as handing a call to a thread costs five times as much. When its calls hold up loops again and again within
//! minutes, it moves back for good.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// Quick calls on threads before a generation may run on the loop.
const TRIAL: u32 = 32;
/// A call of this length is quick. A loop is replaced after five times as long.
const QUICK: Duration = Duration::from_millis(1);
/// Times that a generation may hold up a loop within [`MEMORY`]: a machine under load makes any plugin seem slow now and
/// then.
const STRIKES: usize = 3;
/// A generation serves for months. What happened longer ago says nothing of it.
const MEMORY: Duration = Duration::from_secs(600);

/// The pace of one generation.
#[derive(Debug)]
pub struct Pace {
    inline: AtomicBool,
    slow_for_good: AtomicBool,
    quick_calls: AtomicU32,
    /// When it held up loops, the last few times.
    strikes: Mutex<Vec<Instant>>,
    threads: Arc<Semaphore>,
}

impl Pace {
    /// `blocking`: the author says that it will block. `threads`: how many of its calls may run on threads at once.
    pub fn new(blocking: bool, threads: usize) -> Self {
        Self {
            inline: AtomicBool::new(false),
            slow_for_good: AtomicBool::new(blocking),
            quick_calls: AtomicU32::new(0),
            strikes: Mutex::default(),
            threads: Arc::new(Semaphore::new(threads)),
        }
    }

    /// Whether it may run on the loop.
    pub fn inline(&self) -> bool {
        self.inline.load(Ordering::Relaxed)
    }

    /// One permit for each of its calls on threads.
    pub fn threads(&self) -> &Arc<Semaphore> {
        &self.threads
    }

    /// Notes a call that ran on a thread. `asked`: it asked the gateway for something undeclared.
    pub fn ran_on_thread(&self, took: Duration, asked: bool) {
        if asked || took > QUICK {
            self.quick_calls.store(0, Ordering::Relaxed);
        } else if self.quick_calls.fetch_add(1, Ordering::Relaxed) + 1 >= TRIAL {
            let fit = !self.slow_for_good.load(Ordering::Relaxed);
            self.inline.store(fit, Ordering::Relaxed);
        }
    }

    /// Notes an undeclared question on the loop: the loop waited for the gateway.
    pub fn asked_on_loop(&self) {
        self.quick_calls.store(0, Ordering::Relaxed);
        self.inline.store(false, Ordering::Relaxed);
    }

    /// Notes that it held up a loop at `now`. Returns whether it moved to threads for good with that.
    pub fn held_up_a_loop(&self, now: Instant) -> bool {
        self.quick_calls.store(0, Ordering::Relaxed);
        self.inline.store(false, Ordering::Relaxed);
        let mut strikes = self.strikes.lock().unwrap_or_else(PoisonError::into_inner);
        strikes.retain(|strike| now.saturating_duration_since(*strike) < MEMORY);
        strikes.push(now);
        strikes.len() >= STRIKES && !self.slow_for_good.swap(true, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trained() -> Pace {
        let pace = Pace::new(false, 1);
        for _ in 0..TRIAL {
            assert!(!pace.inline());
            pace.ran_on_thread(Duration::from_micros(10), false);
        }
        pace
    }

    #[test]
    fn a_generation_moves_to_the_loop_after_its_trial() {
        assert!(trained().inline());
    }

    #[test]
    fn a_slow_call_or_a_question_begins_the_trial_again() {
        for (took, asked) in [(Duration::from_millis(20), false), (Duration::ZERO, true)] {
            let pace = Pace::new(false, 1);
            for _ in 0..TRIAL * 3 {
                pace.ran_on_thread(took, asked);
                pace.ran_on_thread(Duration::ZERO, false);
            }
            assert!(!pace.inline());
        }
    }

    #[test]
    fn one_that_holds_up_loops_again_and_again_stays_on_threads() {
        let pace = trained();
        let now = Instant::now();
        let moved: Vec<bool> = (0..STRIKES + 1).map(|_| pace.held_up_a_loop(now)).collect();
        assert_eq!(moved.iter().filter(|moved| **moved).count(), 1);
        for _ in 0..TRIAL * 2 {
            pace.ran_on_thread(Duration::ZERO, false);
        }
        assert!(!pace.inline());
    }

    #[test]
    fn one_that_holds_up_a_loop_now_and_then_may_come_back() {
        let (pace, start) = (trained(), Instant::now());
        for number in 0..STRIKES as u32 * 4 {
            // Two within the time that counts, each time.
            let now = start + MEMORY / 2 * number;
            assert!(!pace.held_up_a_loop(now));
            for _ in 0..TRIAL {
                pace.ran_on_thread(Duration::ZERO, false);
            }
            assert!(pace.inline());
        }
    }

    #[test]
    fn a_plugin_that_declares_to_block_never_runs_on_the_loop() {
        let pace = Pace::new(true, 1);
        for _ in 0..TRIAL * 2 {
            pace.ran_on_thread(Duration::ZERO, false);
        }
        assert!(!pace.inline());
    }
}
