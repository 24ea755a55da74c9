//! Reads the runner's frames: FlatBuffers tables over bytes, every access checked, text as bytes.
//! It accepts exactly what the gateway's own lenient reader accepts, so it never verifies a buffer as a whole.

use thiserror::Error;

/// A payload in which a part lies outside the buffer, or a part that must be there is missing.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the runner's reply cannot be read: {0}")]
pub(super) struct Unreadable(pub(super) &'static str);

type Read<T> = Result<T, Unreadable>;

/// A name with a value, either of which may be absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

/// What the runner decided about a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    None,
    Stop {
        status: u16,
        headers: Vec<Entry>,
        body: Vec<u8>,
    },
    Rewrite(Rewrite),
}

/// Changes to a request; empty lists and bodies mean no change.
#[derive(Debug, PartialEq, Eq)]
pub struct Rewrite {
    pub path: Option<Vec<u8>>,
    pub headers: Vec<Entry>,
    pub args: Vec<Entry>,
    pub resp_headers: Vec<Entry>,
    pub body: Vec<u8>,
}

/// What the runner decided about a response; status 0 and an empty body mean no change.
#[derive(Debug, PartialEq, Eq)]
pub struct ResponseChange {
    pub status: u16,
    pub headers: Vec<Entry>,
    pub body: Vec<u8>,
}

/// A question inside a call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Question {
    Variable(Option<Vec<u8>>),
    RequestBody,
    ResponseBody,
    Unknown(u8),
}

/// The code of an ERROR frame.
pub(super) fn error_code(payload: &[u8]) -> Read<u8> {
    Table::root(payload)?.u8(0)
}

/// The token of a PREPARE_CONF reply.
pub(super) fn conf_token(payload: &[u8]) -> Read<u32> {
    Table::root(payload)?.u32(0)
}

/// The action of an HTTP_REQ_CALL reply; an unknown one is none.
pub(super) fn action(payload: &[u8]) -> Read<Action> {
    let reply = Table::root(payload)?;
    match reply.u8(1)? {
        1 => {
            let stop = reply.union(2)?;
            Ok(Action::Stop {
                status: stop.u16(0)?,
                headers: stop.entries(1)?,
                body: stop.body(2)?,
            })
        }
        2 => {
            let rewrite = reply.union(2)?;
            Ok(Action::Rewrite(Rewrite {
                path: rewrite.bytes(0)?.map(<[u8]>::to_vec),
                headers: rewrite.entries(1)?,
                args: rewrite.entries(2)?,
                resp_headers: rewrite.entries(3)?,
                body: rewrite.body(4)?,
            }))
        }
        _ => Ok(Action::None),
    }
}

/// The content of an HTTP_RESP_CALL reply.
pub(super) fn response_change(payload: &[u8]) -> Read<ResponseChange> {
    let reply = Table::root(payload)?;
    Ok(ResponseChange {
        status: reply.u16(1)?,
        headers: reply.entries(2)?,
        body: reply.body(3)?,
    })
}

/// The question of an EXTRA_INFO frame.
pub(super) fn question(payload: &[u8]) -> Read<Question> {
    let request = Table::root(payload)?;
    match request.u8(0)? {
        1 => Ok(Question::Variable(
            request.union(1)?.bytes(0)?.map(<[u8]>::to_vec),
        )),
        2 => Ok(Question::RequestBody),
        3 => Ok(Question::ResponseBody),
        other => Ok(Question::Unknown(other)),
    }
}

/// A table at an offset of a buffer. Slots count from 0 in the schema's declaration order.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    buffer: &'a [u8],
    at: usize,
}

impl<'a> Table<'a> {
    pub(super) fn root(buffer: &'a [u8]) -> Read<Self> {
        if buffer.is_empty() {
            return Err(Unreadable("the payload is empty"));
        }
        Ok(Self {
            buffer,
            at: read_u32(buffer, 0)? as usize,
        })
    }

    pub(super) fn u8(&self, slot: usize) -> Read<u8> {
        Ok(self.scalar::<1>(slot)?[0])
    }

    pub(super) fn u16(&self, slot: usize) -> Read<u16> {
        self.scalar(slot).map(u16::from_le_bytes)
    }

    pub(super) fn u32(&self, slot: usize) -> Read<u32> {
        self.scalar(slot).map(u32::from_le_bytes)
    }

    /// A string or a byte vector; `None` if the field is absent.
    pub(super) fn bytes(&self, slot: usize) -> Read<Option<&'a [u8]>> {
        let Some(start) = self.target(slot)? else {
            return Ok(None);
        };
        let length = read_u32(self.buffer, start)? as usize;
        let bytes = self
            .buffer
            .get(start + 4..)
            .and_then(|rest| rest.get(..length));
        bytes
            .map(Some)
            .ok_or(Unreadable("text or bytes end outside the payload"))
    }

    /// A vector of name and value; absent reads as empty.
    pub(super) fn entries(&self, slot: usize) -> Read<Vec<Entry>> {
        let Some(start) = self.target(slot)? else {
            return Ok(Vec::new());
        };
        let length = read_u32(self.buffer, start)? as usize;
        // Each entry takes at least its offset, so the length is bounded before anything is allocated.
        if self.buffer.len().saturating_sub(start + 4) / 4 < length {
            return Err(Unreadable("a list ends outside the payload"));
        }
        (0..length)
            .map(|index| self.entry(start + 4 + 4 * index))
            .collect()
    }

    fn entry(&self, slot_at: usize) -> Read<Entry> {
        let at = slot_at + read_u32(self.buffer, slot_at)? as usize;
        let entry = Table {
            buffer: self.buffer,
            at,
        };
        let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        Ok(Entry {
            name: owned(entry.bytes(0)?),
            value: owned(entry.bytes(1)?),
        })
    }

    fn union(&self, slot: usize) -> Read<Self> {
        let at = self
            .target(slot)?
            .ok_or(Unreadable("the union's table is absent"))?;
        Ok(Self {
            buffer: self.buffer,
            at,
        })
    }

    fn body(&self, slot: usize) -> Read<Vec<u8>> {
        Ok(self.bytes(slot)?.unwrap_or_default().to_vec())
    }

    fn scalar<const N: usize>(&self, slot: usize) -> Read<[u8; N]> {
        match self.field(slot)? {
            Some(at) => read(self.buffer, at),
            None => Ok([0; N]),
        }
    }

    fn target(&self, slot: usize) -> Read<Option<usize>> {
        let Some(at) = self.field(slot)? else {
            return Ok(None);
        };
        Ok(Some(at + read_u32(self.buffer, at)? as usize))
    }

    fn field(&self, slot: usize) -> Read<Option<usize>> {
        let back = i64::from(i32::from_le_bytes(read(self.buffer, self.at)?));
        let vtable = usize::try_from(self.at as i64 - back).map_err(|_| OUTSIDE)?;
        let entry = 4 + 2 * slot;
        if entry >= usize::from(u16::from_le_bytes(read(self.buffer, vtable)?)) {
            return Ok(None);
        }
        let offset = u16::from_le_bytes(read(self.buffer, vtable + entry)?);
        Ok((offset != 0).then(|| self.at + usize::from(offset)))
    }
}

const OUTSIDE: Unreadable = Unreadable("an offset points outside the payload");

fn read<const N: usize>(buffer: &[u8], at: usize) -> Read<[u8; N]> {
    buffer
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .copied()
        .ok_or(OUTSIDE)
}

fn read_u32(buffer: &[u8], at: usize) -> Read<u32> {
    read(buffer, at).map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeroes_are_a_reply_without_an_action_and_garbage_is_not() {
        assert_eq!(action(&[0; 4]), Ok(Action::None));
        assert!(action(&[0xff; 8]).is_err());
        assert!(action(&[]).is_err());
        assert!(action(&[1]).is_err());
    }

    #[test]
    fn no_prefix_and_no_flipped_byte_of_a_reply_panics() {
        let hex = "1000000000000a0012000c000b0004000a0000001c000000000000025000000000000e001800140010000c00080004000e00000014000000180000003800000058000000800000000100000042000000010000000400\
                   0000b8ffffff080000000c000000010000003300000003000000582d42000100000004000000dcffffff080000000c0000000100000032000000010000007100000001000000 0c00000008000c000800040008000000080000000c000000010000003100000003000000582d4100040000002f616c6c00000000";
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let payload: Vec<u8> = digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        let Ok(Action::Rewrite(rewrite)) = action(&payload) else {
            panic!("not a rewrite")
        };
        assert_eq!(rewrite.path.as_deref(), Some(&b"/all"[..]));
        assert_eq!(rewrite.body, b"B");
        for end in 0..payload.len() {
            let _ = action(&payload[..end]);
            for bit in 0..8 {
                let mut flipped = payload.clone();
                flipped[end] ^= 1 << bit;
                let _ = (
                    action(&flipped),
                    question(&flipped),
                    response_change(&flipped),
                );
            }
        }
    }
}
