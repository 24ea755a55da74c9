//! States of confs on their way to another process: what they belong to, and their form as bytes. Runs no author code.

use plugin_api::State;

/// Bytes that all states of a worker may have together.
pub const MOST: usize = 64 << 20;
/// Bytes of a name or key. Longer ones cannot be: the gateway's frame holds the key, the library's metadata the name.
const LONGEST_TEXT: usize = 16 << 20;

/// A conf, whatever generation configures it, and whatever the version of its route's key: a hash of route, plugin, value,
/// and how often the same stands before it in its chain.
pub type ConfId = [u8; 32];

/// The state of one conf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedState {
    /// Whose.
    pub conf: ConfId,
    /// The plugin's name, for people.
    pub plugin: String,
    /// The gateway's key of the route, for people.
    pub route_key: String,
    /// The author's version of the form of `data`.
    pub version: u32,
    /// At most [`State::MAX_LEN`] bytes.
    pub data: Vec<u8>,
}

/// These bytes are not what [`write`] makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the states of confs cannot be read: at byte {0}")]
pub struct Unreadable(usize);

/// The states as bytes, for [`read`] of the same build of the runner.
pub fn write(states: &[SavedState]) -> Vec<u8> {
    let mut out = Vec::new();
    for state in states {
        out.extend(state.conf);
        out.extend(state.version.to_le_bytes());
        let parts = [
            state.plugin.as_bytes(),
            state.route_key.as_bytes(),
            &state.data,
        ];
        for part in parts {
            out.extend((part.len() as u32).to_le_bytes());
            out.extend(part);
        }
    }
    out
}

/// Reads what [`write`] made.
///
/// # Errors
/// It is cut off, or too long.
pub fn read(bytes: &[u8]) -> Result<Vec<SavedState>, Unreadable> {
    let mut rest = bytes;
    let mut states = Vec::new();
    while !rest.is_empty() {
        let state = read_one(&mut rest).ok_or(Unreadable(bytes.len() - rest.len()))?;
        states.push(state);
    }
    Ok(states)
}

fn read_one(rest: &mut &[u8]) -> Option<SavedState> {
    let conf = *rest.split_off(..32)?.first_chunk()?;
    let version = u32::from_le_bytes(*rest.split_off(..4)?.first_chunk()?);
    let plugin = part(rest, LONGEST_TEXT)?;
    let route_key = part(rest, LONGEST_TEXT)?;
    Some(SavedState {
        conf,
        plugin: String::from_utf8_lossy(plugin).into_owned(),
        route_key: String::from_utf8_lossy(route_key).into_owned(),
        version,
        data: part(rest, State::MAX_LEN)?.to_vec(),
    })
}

fn part<'a>(rest: &mut &'a [u8], most: usize) -> Option<&'a [u8]> {
    let len = u32::from_le_bytes(*rest.split_off(..4)?.first_chunk()?) as usize;
    (len <= most).then(|| rest.split_off(..len)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states() -> Vec<SavedState> {
        let state = |number: u8, len: usize| SavedState {
            conf: [number; 32],
            plugin: "limit-req".to_owned(),
            route_key: format!("route#{number}#ext-plugin-pre-req#7"),
            version: u32::from(number),
            data: vec![number; len],
        };
        vec![state(1, 0), state(2, State::MAX_LEN), state(255, 3)]
    }

    #[test]
    fn states_survive_being_written() {
        assert_eq!(read(&write(&states())), Ok(states()));
        assert_eq!(read(&[]), Ok(Vec::new()));
    }

    #[test]
    fn states_that_are_cut_off_are_not_read() {
        let whole = write(&states()[..1]);
        for len in 1..whole.len() {
            assert!(read(&whole[..len]).is_err(), "{len}");
        }
        let mut too_long = states();
        too_long[0].data = vec![0; State::MAX_LEN + 1];
        assert!(read(&write(&too_long)).is_err());
    }
}
