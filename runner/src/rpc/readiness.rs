//! The one place where a descriptor is registered with the event loop of the current thread.

use std::io;
use std::os::fd::AsRawFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches the descriptor of `owner`, which keeps it open and the same for as long as the registration lives:
/// everything passed here owns it, alone or through an `Arc`.
///
/// # Errors
/// The kernel watches no more descriptors, or not of this kind.
#[expect(
    deprecated,
    reason = "its successor differs only in being `unsafe`; what that one asks for is the first sentence above"
)]
pub(super) fn watch<T: AsRawFd>(owner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(owner, interest)
}
