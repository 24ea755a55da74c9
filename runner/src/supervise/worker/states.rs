//! States of confs on their way from a worker to the one that takes over: asked for when that has its confs and before it
//! serves, over a pair of sockets of their own. Lost on any fault, which is logged; a recycle never fails for them.
//!
//! On the wire: one byte that asks; then u64 length (big-endian), and the states as `request::saved` writes them.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::request::saved::{self, SavedState};

/// How long authors' code may take to save all states.
pub(super) const EXPORT: Duration = Duration::from_secs(1);
/// How long the other side may take: to make its confs ready, or to save and send states.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of all states together at most, with the names of what they belong to.
const MOST: u64 = 2 * saved::MOST as u64;

/// Waits until the other side asks, and sends it what `export` makes.
///
/// # Errors
/// The other side is gone or too slow.
pub(super) fn give(to: OwnedFd, export: impl FnOnce() -> Vec<SavedState>) -> io::Result<()> {
    let mut to = with_patience(to)?;
    to.read_exact(&mut [0])?;
    let states = saved::write(&export());
    to.write_all(&(states.len() as u64).to_be_bytes())?;
    to.write_all(&states)
}

/// Asks the other side for its states.
///
/// # Errors
/// It is gone or too slow, or sends nonsense.
pub(super) fn ask(from: OwnedFd) -> io::Result<Vec<SavedState>> {
    let mut from = with_patience(from)?;
    from.write_all(&[1])?;
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let length = u64::from_be_bytes(length);
    let mut bytes = Vec::new();
    let read = from.take(length.min(MOST)).read_to_end(&mut bytes)?;
    if read as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    saved::read(&bytes).map_err(io::Error::other)
}

fn with_patience(socket: OwnedFd) -> io::Result<UnixStream> {
    let socket = UnixStream::from(socket);
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(size: usize) -> SavedState {
        SavedState {
            conf: [7; 32],
            plugin: "limit-req".to_owned(),
            route_key: "route#1#ext-plugin-pre-req#1".to_owned(),
            version: 3,
            data: vec![9; size],
        }
    }

    #[test]
    fn states_arrive_as_they_were_given_when_they_are_asked_for() {
        for states in [vec![], vec![state(0), state(1 << 20)]] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let given = states.clone();
            let giving = std::thread::spawn(move || give(theirs.into(), || given));
            assert_eq!(ask(ours.into()).unwrap(), states);
            giving.join().unwrap().unwrap();
        }
    }

    #[test]
    fn the_end_of_either_side_is_an_error_and_not_a_wait() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert!(ask(ours.into()).is_err());
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert!(give(ours.into(), || panic!("nobody has asked")).is_err());
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&[0, 0, 0, 0, 0, 0, 0, 9, 1]).unwrap();
        drop(theirs);
        assert!(ask(ours.into()).is_err());
    }
}
