//! Sees to it that a stuck event loop is replaced.
//!
//! One thread. It ticks only while loops are at work and rests otherwise, without a single wake-up. Deadlines are
//! not its business: the connection's task on the fresh loop keeps them. Beside that it sees to it that memory of large
//! bodies goes back to the system soon after the last one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::event_loop::{EventLoop, LoopId, Work};
use super::event_loops;
use super::large;
use super::server::Shared;
use crate::request::service::{Call, Service};

/// A loop that has been at one thing for this long is replaced. With the time the replacement takes, other calls
/// wait less than 10 ms.
pub(super) const STUCK: Duration = Duration::from_millis(5);

/// The same for a loop that has just taken a stuck one's place: its calls have waited already.
const STUCK_AGAIN: Duration = Duration::from_millis(2);

/// So long after it has.
const JUST: Duration = Duration::from_millis(20);

/// A loop whose thread hardly gets a processor is replaced after this: another thread may have more luck.
const STARVED: Duration = Duration::from_millis(20);

/// So long a thread that seems stuck and could run is looked at, to see whether it does.
const CONFIRM: Duration = Duration::from_micros(250);

/// The same when it has taken another one's place this recently: the machine has no luck to give, and thousands of
/// connections are not moved again and again.
const LUCKLESS: Duration = Duration::from_secs(1);

/// Between two looks.
const LEAST_TICK: Duration = Duration::from_millis(1);

/// Ticks without any work before the watchdog rests.
const QUIET_TICKS: u32 = 20;

/// Why a loop is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// A call holds it up.
    Call,
    /// It gets no processor.
    Machine,
}

/// The side of the watchdog that the loops see.
#[derive(Debug)]
pub(super) struct Alarm {
    resting: AtomicBool,
    stopped: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Alarm {
    pub(super) fn new() -> Self {
        Self {
            resting: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            thread: OnceLock::new(),
        }
    }

    /// Wakes the watchdog if it rests.
    #[inline]
    pub(super) fn rouse(&self) {
        if self.resting.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Ends the watchdog.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.wake();
    }

    #[cold]
    fn wake(&self) {
        self.resting.store(false, Ordering::SeqCst);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Rests until roused, or for `most`, unless `working` says that a loop has just begun.
    fn rest(&self, most: Option<Duration>, working: impl FnOnce() -> bool) {
        self.resting.store(true, Ordering::SeqCst);
        if !working() && !self.stopped.load(Ordering::SeqCst) {
            match most {
                Some(most) => std::thread::park_timeout(most),
                None => std::thread::park(),
            }
        }
        self.resting.store(false, Ordering::SeqCst);
    }
}

/// Starts the watchdog's thread.
///
/// # Errors
/// No thread to be had.
pub(super) fn start<S: Service>(shared: Arc<Shared<S>>) -> std::io::Result<()> {
    let alarm = Arc::clone(&shared.alarm);
    let thread = std::thread::Builder::new()
        .name("watchdog".to_owned())
        .spawn(move || watch(&shared))?;
    // Roused only after it has rested, and `rest` looks at the loops once more before it parks.
    let _ = alarm.thread.set(thread.thread().clone());
    thread.thread().unpark();
    Ok(())
}

fn watch<S: Service>(shared: &Arc<Shared<S>>) {
    let alarm = &shared.alarm;
    let mut seen = HashMap::new();
    let mut quiet = 0;
    let mut large_looked = Instant::now();
    while !alarm.stopped.load(Ordering::SeqCst) {
        if large::flows() && large_looked.elapsed() >= large::STAYS {
            large::look();
            large_looked = Instant::now();
        }
        match look(shared, &mut seen) {
            Some(next) => {
                quiet = 0;
                // A call that is young now is looked at again just when it would be stuck.
                std::thread::park_timeout(next.max(LEAST_TICK));
            }
            None if quiet < QUIET_TICKS => {
                quiet += 1;
                std::thread::park_timeout(STUCK);
            }
            None => {
                quiet = 0;
                let most = large::flows().then_some(large::STAYS);
                alarm.rest(most, || is_any_at_work(shared));
                seen.clear();
            }
        }
    }
}

fn is_any_at_work<S: Service>(shared: &Shared<S>) -> bool {
    let loops = shared.loops.current();
    loops.iter().any(|each| each.is_awake())
}

/// What the watchdog knows of a loop from its last look.
#[derive(Debug)]
struct Seen {
    /// Of the work at hand.
    began: u64,
    /// How long the thread had waited for a processor, shortly before it began that.
    starved_before: Duration,
    starved: Duration,
}

/// Replaces every loop that is stuck; returns when the first of the others would be.
fn look<S: Service>(shared: &Arc<Shared<S>>, seen: &mut HashMap<LoopId, Seen>) -> Option<Duration> {
    let mut next: Option<Duration> = None;
    let mut replaced = false;
    let serving = shared.loops.current();
    seen.retain(|id, _| serving.iter().any(|each| each.id == *id));
    for event_loop in &serving {
        let work = event_loop.work();
        let starved = event_loop.processor().starved;
        let seen = seen.entry(event_loop.id).or_insert(Seen {
            began: 0,
            starved_before: starved,
            starved,
        });
        if let Some(work) = work {
            if seen.began != work.began {
                seen.began = work.began;
                seen.starved_before = seen.starved;
            }
            let patience = patience(event_loop.took_over());
            let (busy, before) = (work.busy, seen.starved_before);
            let judged =
                |busy, starved: Duration| judge(busy, starved.saturating_sub(before), patience);
            let cause = match judged(busy, starved) {
                Some(Cause::Call) => confirm(event_loop, work, judged),
                cause => cause,
            };
            match cause {
                Some(cause) => {
                    replaced = true;
                    event_loops::take_over(shared, event_loop, cause, busy);
                    // What waited with the stuck call runs now.
                    next = Some(STUCK_AGAIN);
                }
                None => {
                    let left = patience.call.saturating_sub(busy);
                    next = Some(next.map_or(left, |next| next.min(left)));
                }
            }
        }
        seen.starved = starved;
    }
    if replaced {
        event_loops::replenish(shared);
    }
    next
}

/// Why a loop that seems to be stuck in a call is replaced after all. Not for the call's sake if its thread has lost its
/// processor and waits for it now, which the kernel does not count before it is over: on a machine that is shared, any
/// plugin would seem to be slow.
fn confirm<C: Call>(
    event_loop: &EventLoop<C>,
    work: Work,
    judged: impl Fn(Duration, Duration) -> Option<Cause>,
) -> Option<Cause> {
    if !event_loop.is_runnable() {
        return Some(Cause::Call);
    }
    let before = event_loop.processor();
    // Off the processor ourselves: there may be only one.
    std::thread::park_timeout(CONFIRM);
    let busy = event_loop
        .work()
        .filter(|now| now.began == work.began)?
        .busy;
    let now = event_loop.processor();
    // A kernel that does not count.
    if now.had.is_zero() {
        return Some(Cause::Call);
    }
    let waits = match now.had == before.had {
        true => busy,
        false => Duration::ZERO,
    };
    judged(busy, now.starved + waits)
}

/// How long a loop may be at one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Patience {
    /// While it has a processor.
    call: Duration,
    /// While it gets none.
    machine: Duration,
}

/// For a loop that took another one's place so long ago.
fn patience(took_over: Option<Duration>) -> Patience {
    let within = |time| took_over.is_some_and(|since| since < time);
    Patience {
        call: if within(JUST) { STUCK_AGAIN } else { STUCK },
        machine: if within(LUCKLESS) { LUCKLESS } else { STARVED },
    }
}

/// Whether a loop that has been at one thing for `busy` is to be replaced, and why. A thread that merely gets no
/// processor is not: on an overloaded machine, threads by the dozen would make it worse, and blameless plugins would
/// be blamed.
fn judge(busy: Duration, starved: Duration, patience: Patience) -> Option<Cause> {
    let own = busy.saturating_sub(starved);
    if busy >= patience.call && own >= patience.call / 2 {
        Some(Cause::Call)
    } else if busy >= patience.machine {
        Some(Cause::Machine)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use rustix::thread::CpuSet;

    use super::*;
    use crate::request::call::PluginCall;
    use crate::request::moment::Moment;
    use crate::rpc::event_loop::Processor;

    fn check(busy: u64, starved: u64, expected: Option<Cause>) {
        let (busy_for, starved_for) = (Duration::from_millis(busy), Duration::from_millis(starved));
        let judged = judge(busy_for, starved_for, patience(None));
        assert_eq!(judged, expected, "{busy} ms, of them {starved} ms starved");
    }

    #[test]
    fn a_loop_is_replaced_when_a_call_holds_it_up_and_not_when_the_machine_does() {
        check(4, 0, None);
        check(5, 0, Some(Cause::Call));
        check(6, 5, None);
        check(9, 5, Some(Cause::Call));
        check(19, 18, None);
        check(20, 20, Some(Cause::Machine));
    }

    #[test]
    fn what_waited_for_a_stuck_loop_waits_less_for_the_next_one() {
        let ms = Duration::from_millis;
        assert_eq!(patience(None).call, STUCK);
        assert_eq!(patience(Some(ms(19))).call, STUCK_AGAIN);
        assert_eq!(patience(Some(ms(20))).call, STUCK);
        let just = patience(Some(ms(1)));
        assert_eq!(judge(ms(2), ms(0), just), Some(Cause::Call));
    }

    #[test]
    fn a_loop_whose_predecessor_got_no_processor_either_is_given_time() {
        let ms = Duration::from_millis;
        let fresh = patience(Some(ms(999)));
        assert_eq!(judge(ms(999), ms(999), fresh), None);
        assert_eq!(judge(ms(1_000), ms(1_000), fresh), Some(Cause::Machine));
        let settled = patience(Some(ms(1_000)));
        assert_eq!(judge(ms(20), ms(20), settled), Some(Cause::Machine));
    }

    /// What a thread is told, and tells.
    #[derive(Default)]
    struct Stage {
        ready: AtomicBool,
        end: AtomicBool,
    }

    impl Stage {
        fn goes_on(&self) -> bool {
            self.ready.store(true, Ordering::SeqCst);
            !self.end.load(Ordering::SeqCst)
        }
    }

    /// An event loop whose thread does something until this is dropped.
    struct Held {
        alarm: Alarm,
        event_loop: Arc<EventLoop<PluginCall>>,
        stage: Arc<Stage>,
    }

    impl Held {
        fn by(work: fn(&Stage)) -> Self {
            let held = Self {
                alarm: Alarm::new(),
                event_loop: EventLoop::start(1, Arc::default()).unwrap(),
                stage: Arc::default(),
            };
            let stage = Arc::clone(&held.stage);
            held.event_loop.handle.spawn(async move { work(&stage) });
            until("the thread begins", || {
                std::thread::park_timeout(LEAST_TICK);
                held.stage.ready.load(Ordering::SeqCst)
            });
            held
        }

        /// Whether it could run, and has had no processor since `before`, some milliseconds ago.
        fn had_none_since(&self, before: Processor) -> bool {
            std::thread::park_timeout(STUCK * 3);
            self.event_loop.is_runnable() && self.event_loop.processor() == before
        }

        /// What two looks come to, at the times and at the thread as well, if it has been in a call for as long as that.
        /// `before` is from before that call.
        fn looks(&self, before: Processor) -> (Option<Cause>, Option<Cause>) {
            let _busy = self
                .event_loop
                .enter(&self.alarm, Moment::now().earlier(STUCK));
            let work = self.event_loop.work().unwrap();
            let before = before.starved;
            let judged = |busy, starved: Duration| {
                judge(busy, starved.saturating_sub(before), patience(None))
            };
            let seen = confirm(&self.event_loop, work, judged);
            (judged(work.busy, before), seen)
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            self.stage.end.store(true, Ordering::SeqCst);
            self.event_loop.end();
        }
    }

    fn spin(stage: &Stage) {
        while stage.goes_on() {
            std::hint::spin_loop();
        }
    }

    fn spin_on_one_processor(stage: &Stage) {
        let all = rustix::thread::sched_getaffinity(None).unwrap();
        let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| all.is_set(*cpu));
        let mut one = CpuSet::new();
        one.set(last.unwrap());
        rustix::thread::sched_setaffinity(None, &one).unwrap();
        spin(stage);
    }

    /// Gets a sixtieth of the processor, and waits long for it.
    fn spin_when_nobody_else_does(stage: &Stage) {
        rustix::process::setpriority_process(Some(rustix::thread::gettid()), 19).unwrap();
        spin_on_one_processor(stage);
    }

    fn sleep(stage: &Stage) {
        while stage.goes_on() {
            std::thread::park_timeout(Duration::from_millis(200));
        }
    }

    #[track_caller]
    fn until(what: &str, mut is: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !is() {
            assert!(Instant::now() < deadline, "{what}: waited in vain");
        }
    }

    #[test]
    fn a_thread_that_waits_for_a_processor_is_not_held_up_by_a_call() {
        let held = Held::by(spin_when_nobody_else_does);
        let stage = Arc::clone(&held.stage);
        let other = std::thread::spawn(move || spin_on_one_processor(&stage));
        let mut before = Processor::default();
        until("another has the processor", || {
            before = held.event_loop.processor();
            held.had_none_since(before)
        });
        let (times, seen) = held.looks(before);
        // The kernel does not count that wait yet.
        assert_eq!(times, Some(Cause::Call));
        assert_ne!(seen, Some(Cause::Call));
        drop(held);
        other.join().unwrap();
    }

    #[test]
    fn a_call_that_computes_or_sleeps_holds_up_its_loop() {
        for work in [spin, sleep] {
            let held = Held::by(work);
            let call = Some(Cause::Call);
            // The machine may be busy, too.
            until("it is seen", || {
                held.looks(held.event_loop.processor()) == (call, call)
            });
        }
    }
}
