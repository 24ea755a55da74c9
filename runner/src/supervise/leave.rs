//! The worker's way out.

#![expect(unsafe_code, reason = "_exit is not wrapped by a safe crate")]

/// Ends the process at once, without running what third-party code registered for its end: other threads of it
/// still run, and destructors under their feet crash or hang.
pub(super) fn leave(status: u8) -> ! {
    // SAFETY: _exit takes an integer and does not return; nothing of ours relies on destructors at the end.
    unsafe { libc::_exit(i32::from(status)) }
}
