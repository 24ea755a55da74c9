//! Which plugin code runs on which thread right now, in memory that outlives the process if the supervisor shares it: a
//! crash then has a name. Costs a call three stores.
//!
//! The memory is words, so that the supervisor can read it without trusting it: a header, the mapped ranges of
//! generations, a slot per thread.

mod crash;
mod page;
mod words;

use std::cell::Cell;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use crash::{install, remember_exit};
pub use page::share;
pub use words::{BYTES, Culprit, Ending, Running, read};
use words::{SLOT, SLOTS};

/// What author code does outside of the phases of a call: numbers beside those of the phases.
pub mod activity {
    /// Its constructors run.
    pub const OPEN: u8 = 64;
    /// `init_worker`.
    pub const START: u8 = 65;
    /// `configure`.
    pub const CONFIGURE: u8 = 66;
    /// A value of its is dropped.
    pub const DROP: u8 = 67;
    /// A thread of its own.
    pub const THREAD: u8 = 68;
    /// `export_state`.
    pub const EXPORT: u8 = 69;
    /// `import_state`.
    pub const IMPORT: u8 = 70;
}

/// The words of one thread: what runs, on which token.
type Slot = &'static [AtomicU64];

thread_local! {
    /// The slot that this thread wrote last, for the handler of a crash. Without a destructor, so that the handler may
    /// read it at any time.
    static CURRENT: Cell<Option<Slot>> = const { Cell::new(None) };
    static OWN: Arc<Blame> = Arc::default();
}

/// Which plugin code runs on a thread right now: written by the call, read by the watchdog, and by the supervisor once
/// the process has crashed.
#[derive(Debug)]
pub struct Blame(Slot);

static FREE: Mutex<Free> = Mutex::new(Free {
    slots: Vec::new(),
    used: 0,
});

struct Free {
    slots: Vec<Slot>,
    /// Slots of the page that were ever given out.
    used: usize,
}

impl Default for Blame {
    /// Takes a free slot. When all of the page are taken, one that nobody sees from outside.
    fn default() -> Self {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = free.slots.pop() {
            return Self(slot);
        }
        if free.used < SLOTS {
            free.used += 1;
            return Self(words::slot(page::page(), free.used - 1));
        }
        let hidden: Vec<_> = (0..SLOT).map(|_| AtomicU64::new(0)).collect();
        Self(hidden.leak())
    }
}

impl Drop for Blame {
    fn drop(&mut self) {
        self.leave();
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        free.slots.push(self.0);
    }
}

impl Blame {
    /// No plugin code runs.
    pub const NOBODY: u64 = 0;

    /// That of this thread.
    pub fn of_this_thread() -> Arc<Self> {
        OWN.with(Arc::clone)
    }

    /// Notes on which conf token the thread works from now on.
    #[inline]
    pub fn on_token(&self, token: u32) {
        self.0[1].store(token.into(), Ordering::Relaxed);
    }

    /// Notes that the generation of this number (never 0) runs in the phase of this number. On the thread itself.
    #[inline]
    pub fn enter(&self, generation: u64, phase: u8) {
        CURRENT.set(Some(self.0));
        self.0[0].store(generation << 8 | u64::from(phase), Ordering::Relaxed);
    }

    /// Notes that no plugin code runs.
    #[inline]
    pub fn leave(&self) {
        self.0[0].store(Self::NOBODY, Ordering::Relaxed);
    }

    /// The conf token on which the thread worked last.
    pub fn token(&self) -> u32 {
        self.0[1].load(Ordering::Relaxed) as u32
    }

    /// The generation and phase that run now.
    pub fn now(&self) -> Option<(u64, u8)> {
        match self.0[0].load(Ordering::Relaxed) {
            Self::NOBODY => None,
            both => Some((both >> 8, both as u8)),
        }
    }
}

/// Runs author code outside of a call; `token` is 0 if it belongs to none.
pub fn during<R>(generation: u64, activity: u8, token: u32, code: impl FnOnce() -> R) -> R {
    let blame = Blame::of_this_thread();
    blame.on_token(token);
    blame.enter(generation, activity);
    let result = code();
    blame.leave();
    result
}

/// What this thread does for a generation right now, in words. A thread that runs none of its code for us is its own.
pub fn doing(generation: u64) -> &'static str {
    let running = CURRENT.get().and_then(words::running);
    let running = running.filter(|running| running.generation == generation);
    running.map_or(words::name(activity::THREAD), Running::doing)
}

/// Notes where the code of a generation is mapped, so that a crash of a thread of its own has a name too. `mapped` is the
/// file's name as the kernel shows it.
pub fn note_range(generation: u64, mapped: &Path) {
    let (Ok(maps), Some(mapped)) = (File::open("/proc/self/maps"), mapped.to_str()) else {
        return;
    };
    if let Some(range) = words::range_in(BufReader::new(maps), mapped) {
        words::add_range(page::page(), generation, range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_used_again_when_its_thread_has_gone() {
        let first = Blame::default();
        let slot = first.0.as_ptr();
        first.enter(3, activity::START);
        assert_eq!(first.now(), Some((3, activity::START)));
        drop(first);
        let mut later = Vec::new();
        for _ in 0..1000 {
            let blame = Blame::default();
            assert_eq!(blame.now(), None);
            if blame.0.as_ptr() == slot {
                return;
            }
            later.push(blame);
        }
        panic!("it was lost");
    }

    #[test]
    fn more_threads_than_slots_are_no_fault() {
        let many: Vec<_> = (0..SLOTS + 10).map(|_| Blame::default()).collect();
        for (number, blame) in (1..).zip(&many) {
            blame.enter(number, 1);
        }
        for (number, blame) in (1..).zip(&many) {
            assert_eq!(blame.now(), Some((number, 1)));
        }
    }
}
