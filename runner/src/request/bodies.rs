//! Large bodies that plugins have set. Each lies in a block of its own, with room for the head of a frame in front, so that
//! the block itself can go out as the reply: the body is not copied once more. Never decides what a body is for.

use std::cell::OnceCell;

use elsa::FrozenVec;

use super::service::LongReply;

/// A body of so many bytes gets a block of its own; shorter ones are copied faster than that.
pub const LARGE: usize = 32 << 10;

/// Room in front of a body: for what most replies have beside it.
const ROOM: usize = 8 << 10;

/// The large bodies of one call. They stay where they are until it ends, so plugins can borrow them.
#[derive(Default)]
pub struct Bodies {
    /// Most calls have none: one word for them.
    blocks: OnceCell<Box<FrozenVec<Vec<u8>>>>,
}

impl Bodies {
    /// Copies a body of a plugin.
    pub fn keep(&self, body: &[u8]) -> &[u8] {
        // With the zeros that may have to follow it in a frame.
        let mut block = Vec::with_capacity(ROOM + body.len().next_multiple_of(4));
        block.resize(ROOM, 0);
        block.extend_from_slice(body);
        let blocks = self.blocks.get_or_init(Box::default);
        blocks.push_get(block).get(ROOM..).unwrap_or_default()
    }

    /// Which of them `body` is; `None` if it is none of them, be it equal to one.
    #[inline]
    pub fn position(&self, body: &[u8]) -> Option<usize> {
        let blocks = self.blocks.get()?;
        let is_it = |block: &[u8]| std::ptr::eq(block.get(ROOM..).unwrap_or_default(), body);
        blocks.iter().position(is_it)
    }

    /// The whole frame that begins with `head` and goes on with the body at `position`, filled up to a multiple of four. A
    /// head that has no room before it is left as it is and gets the rest appended: then there is nothing to return.
    pub fn into_reply(self, position: usize, head: &mut Vec<u8>) -> Option<LongReply> {
        let blocks = self.blocks.into_inner()?.into_vec();
        let mut bytes = blocks.into_iter().nth(position)?;
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        match ROOM.checked_sub(head.len()) {
            Some(from) => {
                bytes.get_mut(from..ROOM)?.copy_from_slice(head);
                Some(LongReply { bytes, from })
            }
            None => {
                head.extend_from_slice(bytes.get(ROOM..)?);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_of_a_body_becomes_the_reply_with_its_head_in_front() {
        for len in 5..9 {
            let bodies = Bodies::default();
            let body = vec![b'b'; len];
            let (first, second) = (bodies.keep(b"another"), bodies.keep(&body));
            assert_eq!((first, second), (&b"another"[..], &*body));
            let block = second.as_ptr();
            let position = bodies.position(second).unwrap();
            let reply = bodies.into_reply(position, &mut b"head".to_vec()).unwrap();
            let zeros = [0; 3];
            let expected = [b"head", &*body, &zeros[..len.next_multiple_of(4) - len]].concat();
            assert_eq!(reply.bytes[reply.from..], expected);
            assert_eq!(reply.bytes[ROOM..].as_ptr(), block, "it was moved");
        }
    }

    #[test]
    fn a_head_without_room_gets_the_body_appended() {
        for (len, fits) in [(ROOM, true), (ROOM + 1, false)] {
            let bodies = Bodies::default();
            let position = bodies.position(bodies.keep(b"body!")).unwrap();
            let mut head = vec![b'h'; len];
            let reply = bodies.into_reply(position, &mut head);
            assert_eq!(reply.is_some(), fits, "{len} bytes");
            let whole = reply.map_or(head, |reply| reply.bytes[reply.from..].to_vec());
            assert!(whole.starts_with(&[b'h'; ROOM]) && whole.ends_with(b"hbody!\0\0\0"));
            assert_eq!(whole.len(), len + 8);
        }
    }

    #[test]
    fn an_equal_body_elsewhere_is_not_one_of_them() {
        let bodies = Bodies::default();
        assert_eq!(bodies.position(b"body"), None);
        bodies.keep(b"body");
        assert_eq!(bodies.position(b"body"), None);
    }
}
