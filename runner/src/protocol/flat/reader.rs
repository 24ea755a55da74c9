//! Reads tables out of a buffer. Every read is bounds-checked; nothing is copied or allocated.
//!
//! Alignment, NUL terminators and UTF-8 are not asked for: bytes are read one way or the other.

use std::array;

use super::Flaw;

/// One table: where it starts and its list of field offsets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table<'f> {
    at: usize,
    /// The buffer from the table on: what a table points to lies behind it. Positions in it have 34 bits at most, so
    /// that one comparison checks both ends of what is read.
    rest: &'f [u8],
    /// Where its fields are; 0 for one that it does not have. Read at once, with one look at the bounds.
    slots: [u16; MOST_FIELDS],
}

/// Fields of the largest table that is read (`HTTPReqCall.Req`).
const MOST_FIELDS: usize = 7;

impl<'f> Table<'f> {
    /// The table the buffer starts with an offset to.
    #[inline(always)]
    pub(crate) fn root(buf: &'f [u8]) -> Result<Self, Flaw> {
        Self::at(buf, follow(buf, 0)?)
    }

    /// The table at a position.
    #[inline(always)]
    pub(crate) fn at(buf: &'f [u8], at: usize) -> Result<Self, Flaw> {
        let slots = all_slots(slots(buf, vtable(buf, at)?)?);
        let rest = buf.get(at..).ok_or(Flaw::Outside)?;
        Ok(Self { at, rest, slots })
    }

    /// The position of a field's bytes behind the table's; `None` when the field is absent. `slot` counts fields in schema
    /// order.
    #[inline(always)]
    fn field(&self, slot: usize) -> Option<usize> {
        match self.slots.get(slot) {
            None | Some(0) => None,
            Some(offset) => Some(usize::from(*offset)),
        }
    }

    /// What an offset in a field points to, behind the table's position.
    #[inline(always)]
    fn target(&self, field: usize) -> Result<usize, Flaw> {
        Ok(field + word(self.rest, field)?)
    }

    /// The position of what an offset in a field points to.
    #[cfg(test)]
    pub(crate) fn pointed(&self, slot: usize) -> Option<usize> {
        Some(self.at + self.target(self.field(slot)?).ok()?)
    }

    /// A field that is a vector of offsets: the position of its first element, and how many there are. All of them lie
    /// inside of the buffer.
    #[inline(always)]
    pub(crate) fn vector(&self, slot: usize) -> Result<Option<(usize, usize)>, Flaw> {
        let Some(field) = self.field(slot) else {
            return Ok(None);
        };
        let at = self.target(field)?;
        let (first, len) = (at + 4, word(self.rest, at)?);
        match first + len * 4 > self.rest.len() {
            true => Err(Flaw::Length),
            false => Ok(Some((self.at + first, len))),
        }
    }

    /// A ubyte field, 0 when absent.
    #[inline(always)]
    pub(crate) fn u8(&self, slot: usize) -> Result<u8, Flaw> {
        self.scalar(slot).map(|[byte]| byte)
    }

    /// A uint16 field, 0 when absent.
    #[inline(always)]
    pub(crate) fn u16(&self, slot: usize) -> Result<u16, Flaw> {
        self.scalar(slot).map(u16::from_le_bytes)
    }

    /// A uint32 field, 0 when absent.
    #[inline(always)]
    pub(crate) fn u32(&self, slot: usize) -> Result<u32, Flaw> {
        self.scalar(slot).map(u32::from_le_bytes)
    }

    /// A string or `[ubyte]` field.
    #[inline(always)]
    pub(crate) fn bytes(&self, slot: usize) -> Result<Option<&'f [u8]>, Flaw> {
        let field = self.field(slot);
        field.map(|field| self.bytes_in(field)).transpose()
    }

    /// A string or `[ubyte]` field, empty when absent.
    #[inline(always)]
    pub(crate) fn bytes_or_none(&self, slot: usize) -> Result<&'f [u8], Flaw> {
        match self.field(slot) {
            None => Ok(&[]),
            Some(field) => self.bytes_in(field),
        }
    }

    #[inline(always)]
    fn bytes_in(&self, field: usize) -> Result<&'f [u8], Flaw> {
        let at = self.target(field)?;
        let (first, len) = (at + 4, word(self.rest, at)?);
        self.rest.get(first..first + len).ok_or(Flaw::Length)
    }

    #[inline(always)]
    fn scalar<const N: usize>(&self, slot: usize) -> Result<[u8; N], Flaw> {
        match self.field(slot) {
            None => Ok([0; N]),
            Some(field) => near(self.rest, field).ok_or(Flaw::Outside),
        }
    }
}

/// Where a two-field table keeps its fields, relative to itself; 0 means absent. Equal for all tables that share a
/// vtable, so a list of tables reads it once.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    vtable: usize,
    fields: (u16, u16),
}

impl Layout {
    /// No table seen yet: no offset leads to a vtable at half of the address space, not even one before the buffer.
    pub const UNKNOWN: Self = Self {
        vtable: usize::MAX / 2,
        fields: (0, 0),
    };

    /// The positions of both fields of the table at `at`, relative to it; 0 where a field is absent.
    #[inline]
    pub(crate) fn fields(&mut self, buf: &[u8], at: usize) -> Result<(u16, u16), Flaw> {
        let vtable = vtable(buf, at)?;
        if vtable != self.vtable {
            self.read(buf, vtable)?;
        }
        Ok(self.fields)
    }

    #[cold]
    fn read(&mut self, buf: &[u8], vtable: usize) -> Result<(), Flaw> {
        let slots = slots(buf, vtable)?;
        let fields = (slot_offset(slots, 0), slot_offset(slots, 1));
        *self = Self { vtable, fields };
        Ok(())
    }
}

/// How a two-field table usually looks: with two offsets right behind that of the vtable, this way or the other.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// At 4 and 8.
    Straight {
        /// Position of the vtable.
        vtable: usize,
    },
    /// At 8 and 4.
    Crossed {
        /// Position of the vtable.
        vtable: usize,
    },
}

impl Shape {
    /// That of the table at `at`, if it has one of them.
    #[inline]
    pub(crate) fn of(buf: &[u8], at: usize) -> Option<Self> {
        let vtable = vtable(buf, at).ok()?;
        match slots(buf, vtable).ok()?.first_chunk()? {
            [4, 0, 8, 0] => Some(Self::Straight { vtable }),
            [8, 0, 4, 0] => Some(Self::Crossed { vtable }),
            _ => None,
        }
    }
}

/// Follows the offset at `at`.
#[inline]
pub(crate) fn follow(buf: &[u8], at: usize) -> Result<usize, Flaw> {
    Ok(at + word(buf, at)?)
}

/// The string or byte vector whose length stands at `at`.
#[inline]
pub(crate) fn bytes_at(buf: &[u8], at: usize) -> Result<&[u8], Flaw> {
    let (first, len) = (at + 4, word(buf, at)?);
    buf.get(first..first + len).ok_or(Flaw::Length)
}

/// The position of the vtable of the table at `at`. Not checked: one before the buffer comes out as a huge number.
#[inline]
fn vtable(buf: &[u8], at: usize) -> Result<usize, Flaw> {
    let back = near(buf, at).ok_or(Flaw::Outside)?;
    Ok(at.wrapping_sub(i32::from_le_bytes(back) as isize as usize))
}

/// The field offsets in the vtable at a position, without the two lengths in front of them.
#[inline]
fn slots(buf: &[u8], vtable: usize) -> Result<&[u8], Flaw> {
    let bytes = buf.get(vtable..).ok_or(Flaw::Vtable)?;
    let len = bytes.first_chunk().ok_or(Flaw::Vtable)?;
    let len = usize::from(u16::from_le_bytes(*len));
    bytes.get(4..len).ok_or(Flaw::Vtable)
}

/// The offsets in all slots, as [`slot_offset`].
#[inline(always)]
fn all_slots(slots: &[u8]) -> [u16; MOST_FIELDS] {
    match slots.first_chunk::<{ MOST_FIELDS * 2 }>() {
        Some(all) => array::from_fn(|slot| u16::from_le_bytes([all[slot * 2], all[slot * 2 + 1]])),
        None => array::from_fn(|slot| slot_offset(slots, slot)),
    }
}

/// The offset in one slot; 0, which means absent, also for a slot that an older writer did not know.
#[inline]
fn slot_offset(slots: &[u8], slot: usize) -> u16 {
    chunk(slots, slot * 2).map_or(0, u16::from_le_bytes)
}

/// The number at a position that cannot overflow: less than 64 bits by far.
#[inline(always)]
pub(crate) fn word(buf: &[u8], at: usize) -> Result<usize, Flaw> {
    match buf.get(at..at + 4).and_then(<[u8]>::first_chunk) {
        Some(word) => Ok(u32::from_le_bytes(*word) as usize),
        None => Err(Flaw::Outside),
    }
}

/// As [`chunk`], for a position that cannot overflow.
#[inline(always)]
pub(crate) fn near<const N: usize>(buf: &[u8], at: usize) -> Option<[u8; N]> {
    buf.get(at..at + N)?.first_chunk().copied()
}

#[inline]
fn chunk<const N: usize>(buf: &[u8], at: usize) -> Option<[u8; N]> {
    // Not `at..at + N`, which would be asked for an overflow, too.
    buf.get(at..)?.first_chunk().copied()
}
