//! Who may connect: the credentials the kernel keeps of the process at the other end.

use std::os::fd::BorrowedFd;

/// The user that most gateways run their workers as (Debian, Alpine and Red Hat agree on the number).
const NOBODY: u32 = 65534;

/// The users whose processes may connect.
#[derive(Debug)]
pub(super) struct Peers(Vec<u32>);

impl Peers {
    /// Our own user, root, nobody, and `configured`.
    pub(super) fn new(configured: &[u32]) -> Self {
        let own = rustix::process::geteuid().as_raw();
        let mut allowed = vec![0, NOBODY, own];
        allowed.extend_from_slice(configured);
        Self(allowed)
    }

    /// Whether the process at the other end of `socket` may talk to us.
    ///
    /// # Errors
    /// The user id that may not connect; `None` when the kernel does not tell.
    pub(super) fn check(&self, socket: BorrowedFd<'_>) -> Result<(), Option<u32>> {
        let peer = rustix::net::sockopt::socket_peercred(socket).map_err(|_| None)?;
        let uid = peer.uid.as_raw();
        if self.0.contains(&uid) {
            Ok(())
        } else {
            Err(Some(uid))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn our_own_user_may_connect() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        assert_eq!(Peers::new(&[]).check(ours.as_fd()), Ok(()));
    }

    #[test]
    fn a_user_that_nobody_configured_is_named() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(Peers(vec![own + 1]).check(ours.as_fd()), Err(Some(own)));
    }
}
