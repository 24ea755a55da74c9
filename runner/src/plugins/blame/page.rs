//! The memory itself: shared with the supervisor, or private.

#![expect(unsafe_code, reason = "maps memory that another process reads")]

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use rustix::mm::{MapFlags, ProtFlags, mmap};

use super::words::{BYTES, WORDS};

static PAGE: OnceLock<&'static [AtomicU64]> = OnceLock::new();

/// Uses this memory from now on. Before anything else of this module.
///
/// # Errors
/// It is too small or cannot be mapped, or the module is in use already.
pub fn share(memory: BorrowedFd<'_>) -> io::Result<()> {
    if rustix::fs::fstat(memory)?.st_size < BYTES as i64 {
        return Err(io::Error::other("the shared memory is too small"));
    }
    let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
    // SAFETY: a new mapping at an address of the kernel's choice; nothing of ours lies there.
    let start = unsafe { mmap(std::ptr::null_mut(), BYTES, access, flags, memory, 0) }?;
    // SAFETY: the mapping has room for the words, is aligned to a page, and is never unmapped; the supervisor has sealed
    // its size. Any bytes are a valid AtomicU64.
    let page = unsafe { std::slice::from_raw_parts(start.cast::<AtomicU64>(), WORDS) };
    PAGE.set(page)
        .map_err(|_| io::Error::other("plugin code is noted elsewhere already"))
}

/// The words.
pub(super) fn page() -> &'static [AtomicU64] {
    PAGE.get_or_init(private)
}

/// The words, if there are any. Async-signal-safe.
pub(super) fn known() -> Option<&'static [AtomicU64]> {
    PAGE.get().copied()
}

fn private() -> &'static [AtomicU64] {
    let words: Vec<_> = (0..WORDS).map(|_| AtomicU64::new(0)).collect();
    words.leak()
}
