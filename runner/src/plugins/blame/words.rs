//! The form of the shared memory. Writes it through atomics; reads it, after a crash, from a copy that may hold anything.

use std::io::BufRead;
use std::sync::atomic::{AtomicU64, Ordering};

use super::activity;
use crate::plugins::generation::phase_name;

/// Words: how it ended, the slot of the thread (counted from 1), where its code was.
const HEADER: usize = 8;
const ENDING: usize = 0;
const THREAD: usize = 1;
const ADDRESS: usize = 2;
/// Mapped ranges: generation, first byte, byte behind the last.
const RANGE: usize = 3;
const RANGES: usize = 2048;
/// A slot has a cache line of its own.
pub(super) const SLOT: usize = 8;
pub(super) const SLOTS: usize = 2048;
const FIRST_SLOT: usize = HEADER + RANGE * RANGES;
pub(super) const WORDS: usize = FIRST_SLOT + SLOT * SLOTS;
/// Bytes of all of it.
pub const BYTES: usize = WORDS * 8;

/// In the place of a signal's number.
const EXIT: u64 = 1 << 32;

/// What a process that ended said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Whose code crashed or called `exit`, if it was a plugin's.
    pub culprit: Option<Culprit>,
    /// What ran at that moment, the culprit among it.
    pub running: Vec<Running>,
    /// The end was recorded: it did not come from outside.
    pub recorded: bool,
}

/// The code that ended the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Culprit {
    /// What it was doing.
    pub running: Running,
    /// It called `exit`; otherwise it crashed.
    pub exited: bool,
}

/// Author code that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// Number of the generation.
    pub generation: u64,
    /// A phase, or one of [`activity`].
    pub activity: u8,
    /// The conf token; 0 when it belongs to none.
    pub token: u32,
}

impl Running {
    /// What it was doing, in words.
    pub fn doing(self) -> &'static str {
        name(self.activity)
    }
}

/// What a phase or an activity is called.
pub(super) fn name(activity: u8) -> &'static str {
    match activity {
        activity::OPEN => "constructor",
        activity::START => "init_worker",
        activity::CONFIGURE => "configure",
        activity::DROP => "drop",
        activity::EXPORT => "export_state",
        activity::IMPORT => "import_state",
        activity::THREAD => "a thread of its own",
        phase => phase_name(phase.into()),
    }
}

/// What the thread of this slot runs.
pub(super) fn running(slot: &[AtomicU64]) -> Option<Running> {
    let words = [0, 1].map(|word| slot[word].load(Ordering::Relaxed));
    running_in(&words)
}

pub(super) fn slot(page: &'static [AtomicU64], index: usize) -> &'static [AtomicU64] {
    let start = FIRST_SLOT + SLOT * index;
    &page[start..start + SLOT]
}

/// Records the end once. Async-signal-safe.
pub(super) fn record(
    page: &'static [AtomicU64],
    current: Option<&'static [AtomicU64]>,
    signal: Option<u32>,
    address: u64,
) {
    let ending = signal.map_or(EXIT, u64::from);
    let none = Ordering::Relaxed;
    if page[ENDING]
        .compare_exchange(0, ending, none, none)
        .is_err()
    {
        return;
    }
    page[ADDRESS].store(address, none);
    let bytes = current.map(|slot| (slot.as_ptr() as usize).wrapping_sub(page.as_ptr() as usize));
    let index = bytes.and_then(|bytes| (bytes / 8).checked_sub(FIRST_SLOT));
    if let Some(index) = index.map(|words| words / SLOT)
        && index < SLOTS
    {
        page[THREAD].store(index as u64 + 1, none);
    }
}

/// Where a file is mapped. Reads no further than that: the kernel puts what is mapped last below the rest, so that the
/// thousandth library is found as soon as the first one.
pub(super) fn range_in(maps: impl BufRead, file: &str) -> Option<(u64, u64)> {
    let lines = maps.lines().map_while(Result::ok);
    let parts = lines.filter_map(|line| {
        let at = line.find('/')?;
        let name = line[at..].strip_suffix(" (deleted)").unwrap_or(&line[at..]);
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        Some((name == file, number(start)?, number(end)?))
    });
    let parts = parts.skip_while(|part| !part.0).take_while(|part| part.0);
    let ranges = parts.map(|(_, start, end)| (start, end));
    ranges.reduce(|(start, end), (a, b)| (start.min(a), end.max(b)))
}

/// Adds a range, if there is room.
pub(super) fn add_range(page: &[AtomicU64], generation: u64, (start, end): (u64, u64)) {
    for index in 0..RANGES {
        let words = &page[HEADER + RANGE * index..][..RANGE];
        let none = Ordering::Relaxed;
        if words[0].compare_exchange(0, generation, none, none).is_ok() {
            words[1].store(start, none);
            words[2].store(end, none);
            return;
        }
    }
}

/// Reads what a process left behind. A page that is cut short says nothing.
pub fn read(bytes: &[u8]) -> Ending {
    let words: Vec<u64> = bytes
        .chunks_exact(8)
        .filter_map(|word| Some(u64::from_ne_bytes(word.try_into().ok()?)))
        .collect();
    if words.len() < WORDS {
        return Ending {
            culprit: None,
            running: Vec::new(),
            recorded: false,
        };
    }
    let running = |index: usize| running_in(&words[FIRST_SLOT + SLOT * index..]);
    let thread = words[THREAD].checked_sub(1).map(|index| index as usize);
    let recorded = words[ENDING] != 0;
    let by_slot = thread.filter(|index| *index < SLOTS).and_then(running);
    let culprit = by_slot.or_else(|| owner_of(&words, words[ADDRESS]));
    Ending {
        culprit: culprit.filter(|_| recorded).map(|running| Culprit {
            running,
            exited: words[ENDING] == EXIT,
        }),
        running: (0..SLOTS).filter_map(running).collect(),
        recorded,
    }
}

fn running_in(slot: &[u64]) -> Option<Running> {
    (slot[0] != 0).then(|| Running {
        generation: slot[0] >> 8,
        activity: slot[0] as u8,
        token: slot[1] as u32,
    })
}

/// A thread that we do not know crashed at this address.
fn owner_of(words: &[u64], address: u64) -> Option<Running> {
    let ranges = words[HEADER..FIRST_SLOT].chunks_exact(RANGE);
    let mut owners =
        ranges.filter(|range| range[0] != 0 && (range[1]..range[2]).contains(&address));
    let owner = owners.next()?;
    Some(Running {
        generation: owner[0],
        activity: activity::THREAD,
        token: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> &'static [AtomicU64] {
        (0..WORDS)
            .map(|_| AtomicU64::new(0))
            .collect::<Vec<_>>()
            .leak()
    }

    fn bytes(page: &[AtomicU64]) -> Vec<u8> {
        let words = page.iter().map(|word| word.load(Ordering::Relaxed));
        words.flat_map(u64::to_ne_bytes).collect()
    }

    fn run(page: &'static [AtomicU64], index: usize, generation: u64) -> &'static [AtomicU64] {
        let slot = slot(page, index);
        slot[0].store(generation << 8 | 3, Ordering::Relaxed);
        slot[1].store(77, Ordering::Relaxed);
        slot
    }

    const THIRD: Running = Running {
        generation: 3,
        activity: 3,
        token: 77,
    };

    #[test]
    fn the_thread_that_crashed_names_the_culprit_among_those_that_ran() {
        let page = page();
        run(page, 0, 2);
        let crashed = run(page, SLOTS - 1, 3);
        assert_eq!(read(&bytes(page)).culprit, None, "killed from outside");
        record(page, Some(crashed), Some(11), 0);
        record(page, Some(slot(page, 0)), Some(6), 0);
        let ending = read(&bytes(page));
        let exited = false;
        let running = THIRD;
        assert_eq!(ending.culprit, Some(Culprit { running, exited }));
        assert_eq!(ending.running.len(), 2);
    }

    #[test]
    fn a_crash_of_a_thread_of_its_own_is_blamed_by_its_address() {
        let page = page();
        let maps = "\
7f10-7f20 r--p 0 00:00 1 /copies/a-1.so (deleted)
7f20-7f40 r-xp 0 00:00 1 /copies/a-1.so (deleted)
7f40-7f50 r-xp 0 00:00 2 /copies/b-2.so
";
        add_range(
            page,
            1,
            range_in(maps.as_bytes(), "/copies/a-1.so").unwrap(),
        );
        add_range(
            page,
            2,
            range_in(maps.as_bytes(), "/copies/b-2.so").unwrap(),
        );
        assert_eq!(range_in(maps.as_bytes(), "/copies/c.so"), None);
        run(page, 5, 3);
        record(page, None, Some(11), 0x7f40);
        let culprit = read(&bytes(page)).culprit.unwrap();
        assert_eq!(culprit.running.generation, 2);
        assert_eq!(culprit.running.activity, activity::THREAD);
    }

    #[test]
    fn a_crash_in_our_own_code_blames_nobody() {
        let page = page();
        let idle = slot(page, 4);
        run(page, 5, 3);
        record(page, Some(idle), Some(6), 0x10);
        let ending = read(&bytes(page));
        assert_eq!((ending.culprit, ending.recorded), (None, true));
    }

    #[test]
    fn any_bytes_can_be_read() {
        read(&[]);
        read(&vec![0xff; BYTES]);
        read(&vec![0x01; BYTES - 1]);
    }
}
