//! What a worker leaves to the one that takes over, beside connections: the states of confs, and since when tokens are not
//! used. Asked for when that one has its confs, and before it serves, over a pair of sockets of its own. Lost on any fault,
//! which is logged: a recycle never fails for it.
//!
//! On the wire: one byte that asks; then u64 length (big-endian) and the tokens as JSON, and the same for the states, as
//! `request::saved` writes them.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::request::saved::{self, SavedState};

/// How long authors' code may take to save all states.
pub(super) const EXPORT: Duration = Duration::from_secs(1);
/// How long the other side may take: to make its confs ready, or to save and send states.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of either part at most.
const MOST: u64 = 2 * saved::MOST as u64;

/// What is left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) states: Vec<SavedState>,
    /// How long each token has not been used.
    pub(super) unused: Vec<(u32, Duration)>,
}

/// Waits until the other side asks, and sends it what `export` makes.
///
/// # Errors
/// The other side is gone or too slow.
pub(super) fn give(to: OwnedFd, export: impl FnOnce() -> Left) -> io::Result<()> {
    let mut to = with_patience(to)?;
    to.read_exact(&mut [0])?;
    let Left { states, unused } = export();
    for part in [serde_json::to_vec(&unused)?, saved::write(&states)] {
        to.write_all(&(part.len() as u64).to_be_bytes())?;
        to.write_all(&part)?;
    }
    Ok(())
}

/// Asks the other side for what it leaves.
///
/// # Errors
/// It is gone or too slow, or sends nonsense.
pub(super) fn ask(from: OwnedFd) -> io::Result<Left> {
    let mut from = with_patience(from)?;
    from.write_all(&[1])?;
    let unused = serde_json::from_slice(&part(&mut from)?)?;
    let states = saved::read(&part(&mut from)?).map_err(io::Error::other)?;
    Ok(Left { states, unused })
}

fn part(from: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let length = u64::from_be_bytes(length);
    let mut bytes = Vec::new();
    let read = from.take(length.min(MOST)).read_to_end(&mut bytes)?;
    match read as u64 == length {
        true => Ok(bytes),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
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

    fn left(size: usize) -> Left {
        let state = SavedState {
            conf: [7; 32],
            plugin: "limit-req".to_owned(),
            route_key: "route#1#ext-plugin-pre-req#1".to_owned(),
            version: 3,
            data: vec![9; size],
        };
        Left {
            states: vec![state.clone(), state],
            unused: vec![(7, Duration::from_millis(1500)), (u32::MAX, Duration::ZERO)],
        }
    }

    #[test]
    fn what_is_left_arrives_as_it_was_given_when_it_is_asked_for() {
        for left in [Left::default(), left(0), left(1 << 20)] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let given = left.clone();
            let giving = std::thread::spawn(move || give(theirs.into(), || given));
            assert_eq!(ask(ours.into()).unwrap(), left);
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
