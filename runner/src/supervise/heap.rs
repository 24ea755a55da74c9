//! How much freed memory a process keeps. Loading takes tens of megabytes for a moment, spread over the C library's heaps
//! (one for each of several threads), which by itself gives hardly any of it back.

#![expect(
    unsafe_code,
    reason = "the C library's settings of malloc are not wrapped by a safe crate"
)]

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

/// Gives the system back what is free. Takes about a millisecond, during which allocations of other threads wait: for
/// moments after a load, not for calls.
#[cfg(target_env = "gnu")]
pub(super) fn give_back() {
    // SAFETY: malloc_trim takes an integer, locks what it works on, and gives back pages without live allocations only.
    unsafe { libc::malloc_trim(0) };
}

/// Nothing to limit: there is one heap.
#[cfg(not(target_env = "gnu"))]
pub(super) fn keep_few() {}

/// Nothing to give back: another C library does so by itself.
#[cfg(not(target_env = "gnu"))]
pub(super) fn give_back() {}
