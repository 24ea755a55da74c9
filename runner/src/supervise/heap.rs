//! How much memory a process keeps that it does not use. Loading takes megabytes for a moment, spread over the C library's
//! heaps (one for each of several threads), which by itself gives hardly any of it back; and it runs through code that is
//! needed once, most of which stays mapped.

#![expect(
    unsafe_code,
    reason = "the C library's settings of malloc are not wrapped by a safe crate, and a mapping is named by its address"
)]

mod mappings;

use std::fs::File;
use std::io::BufReader;
use std::sync::LazyLock;

use rustix::mm::{Advice, madvise};

use self::mappings::untouched;
use crate::rpc::large::Freed;

/// Makes glibc give large blocks back to the system as soon as they are freed, unless [`freed`] says otherwise. By itself it
/// learns from the first large block to keep them: a worker still had more than 100 MB 20 s after its last body of 16 MiB.
pub(super) const TUNABLES: (&str, &str) = (
    "GLIBC_TUNABLES",
    "glibc.malloc.mmap_threshold=1048576:glibc.malloc.trim_threshold=1048576",
);

/// Blocks that large go to the system, at either end of a heap or alone, while [`TUNABLES`] hold.
#[cfg(target_env = "gnu")]
const GOES_BACK: i32 = 1 << 20;

/// Blocks beyond this are mapped alone, and unmapped when they are freed, also while large bodies flow: the most that
/// glibc takes.
#[cfg(target_env = "gnu")]
const MOST: i32 = 32 << 20;

/// What a heap may keep at its end while large bodies flow: three of the largest, which is what one call needs.
#[cfg(target_env = "gnu")]
const STAYS: i32 = 64 << 20;

/// Heaps that threads share. Calls on the plain path allocate nothing, so threads do not wait for each other here.
#[cfg(target_env = "gnu")]
const HEAPS: i32 = 2;

/// Limits how far freed memory is spread. At the start of a process, before it has threads.
#[cfg(target_env = "gnu")]
pub(super) fn keep_few() {
    // SAFETY: mallopt takes two integers and touches nothing but malloc's own settings; it is called before threads are.
    // With a value that it does not like it changes nothing.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, HEAPS) };
}

/// Gives the system back what is not used: freed memory, and code that start and loading ran through. Not for calls.
pub(super) fn give_back() {
    trim();
    forget_code();
}

/// Takes the pages of files out of this process's memory that are mapped to be read or run and have never been changed in
/// it. They stay in the system's page cache; what is used again comes back in parts of 64 KiB, in about a microsecond each.
fn forget_code() {
    let Ok(maps) = File::open("/proc/self/smaps") else {
        return;
    };
    for mapping in untouched(BufReader::new(maps)) {
        let start = mapping.start as *mut std::ffi::c_void;
        // SAFETY: the kernel has just said that this range is a private mapping of a file, not writable, without a page of
        // our own. So each page holds what the file holds, and that is what the next access finds there again. Nothing
        // unmaps it meanwhile: libraries are never closed. (A debugger that sets its first breakpoint in this very moment
        // loses it.)
        let forgotten = unsafe { madvise(start, mapping.len(), Advice::LinuxDontNeed) };
        if let Err(cause) = forgotten {
            tracing::debug!(%cause, "code stays in memory");
        }
    }
}

/// Takes about a millisecond, during which allocations of other threads wait: for
/// moments after a load, not for calls.
#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: malloc_trim takes an integer, locks what it works on, and gives back pages without live allocations only.
    unsafe { libc::malloc_trim(0) };
}

/// Says what becomes of large blocks that are freed, where [`TUNABLES`] have said so before: whoever sets his own keeps them.
#[cfg(target_env = "gnu")]
pub(super) fn freed(freed: Freed) {
    static OURS: LazyLock<bool> =
        LazyLock::new(|| std::env::var_os(TUNABLES.0).is_some_and(|set| set == TUNABLES.1));
    if !*OURS {
        return;
    }
    let (alone, end) = match freed {
        Freed::Stays => (MOST, STAYS),
        Freed::GoesBack | Freed::Swept => (GOES_BACK, GOES_BACK),
    };
    // SAFETY: as in `keep_few`. Other threads may read the settings meanwhile: each is a word that malloc reads where it
    // needs it, and either value is good at any time.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, alone) };
    // SAFETY: as above.
    unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, end) };
    if freed == Freed::Swept {
        trim();
    }
}

/// Nothing to say.
#[cfg(not(target_env = "gnu"))]
pub(super) fn freed(_: Freed) {}

/// Nothing to limit: there is one heap.
#[cfg(not(target_env = "gnu"))]
pub(super) fn keep_few() {}

/// Nothing to give back: another C library does so by itself.
#[cfg(not(target_env = "gnu"))]
fn trim() {}
