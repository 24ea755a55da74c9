//! Reads tables out of a buffer. Every read is bounds-checked; nothing is copied or allocated.
//!
//! Alignment, NUL terminators and UTF-8 are not asked for: bytes are read one way or the other.

use super::Flaw;

/// A vector of offsets: the position of its first element, and all elements.
type Offsets<'f> = (usize, &'f [[u8; 4]]);

/// One table: where it starts and its list of field offsets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table<'f> {
    at: usize,
    /// The buffer from the table on: what a table points to lies behind it. Positions in it have 34 bits at most, so
    /// that one comparison checks both ends of what is read.
    rest: &'f [u8],
    slots: &'f [u8],
}

impl<'f> Table<'f> {
    /// The table the buffer starts with an offset to.
    #[inline]
    pub(crate) fn root(buf: &'f [u8]) -> Result<Self, Flaw> {
        Self::at(buf, follow(buf, 0)?)
    }

    /// The table at a position.
    #[inline]
    pub(crate) fn at(buf: &'f [u8], at: usize) -> Result<Self, Flaw> {
        let slots = slots(buf, vtable(buf, at)?)?;
        let rest = buf.get(at..).ok_or(Flaw::Outside)?;
        Ok(Self { at, rest, slots })
    }

    /// The position of a field's bytes behind the table's; `None` when the field is absent. `slot` counts fields in schema
    /// order.
    #[inline(always)]
    fn field(&self, slot: usize) -> Option<usize> {
        match slot_offset(self.slots, slot) {
            0 => None,
            offset => Some(usize::from(offset)),
        }
    }

    /// What an offset in a field points to, behind the table's position.
    #[inline(always)]
    fn target(&self, field: usize) -> Result<usize, Flaw> {
        let offset = near(self.rest, field).ok_or(Flaw::Outside)?;
        Ok(field + u32::from_le_bytes(offset) as usize)
    }

    /// The position of what an offset in a field points to.
    #[cfg(test)]
    pub(crate) fn pointed(&self, slot: usize) -> Option<usize> {
        Some(self.at + self.target(self.field(slot)?).ok()?)
    }

    /// A field that is a vector of offsets.
    #[inline(always)]
    pub(crate) fn vector(&self, slot: usize) -> Result<Option<Offsets<'f>>, Flaw> {
        let Some(field) = self.field(slot) else {
            return Ok(None);
        };
        let at = self.target(field)?;
        let len = near(self.rest, at).ok_or(Flaw::Outside)?;
        let (first, len) = (at + 4, u32::from_le_bytes(len) as usize);
        let elements = self.rest.get(first..first + len * 4).ok_or(Flaw::Length)?;
        Ok(Some((self.at + first, elements.as_chunks().0)))
    }

    /// A ubyte field, 0 when absent.
    #[inline]
    pub(crate) fn u8(&self, slot: usize) -> Result<u8, Flaw> {
        self.scalar(slot).map(|[byte]| byte)
    }

    /// A uint16 field, 0 when absent.
    #[inline]
    pub(crate) fn u16(&self, slot: usize) -> Result<u16, Flaw> {
        self.scalar(slot).map(u16::from_le_bytes)
    }

    /// A uint32 field, 0 when absent.
    #[inline]
    pub(crate) fn u32(&self, slot: usize) -> Result<u32, Flaw> {
        self.scalar(slot).map(u32::from_le_bytes)
    }

    /// A string or `[ubyte]` field.
    #[inline]
    pub(crate) fn bytes(&self, slot: usize) -> Result<Option<&'f [u8]>, Flaw> {
        match self.field(slot) {
            None => Ok(None),
            Some(field) => {
                let at = self.target(field)?;
                let len = near(self.rest, at).ok_or(Flaw::Outside)?;
                let (first, len) = (at + 4, u32::from_le_bytes(len) as usize);
                let bytes = self.rest.get(first..first + len);
                bytes.ok_or(Flaw::Length).map(Some)
            }
        }
    }

    #[inline]
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
    order: Order,
}

/// How the two fields lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Right behind the offset of the vtable, the first one first: what all writers make of two strings, this way or
    /// the other.
    Straight,
    Crossed,
    Other,
}

impl Layout {
    /// No table seen yet: no offset leads to a vtable at half of the address space, not even one before the buffer.
    pub const UNKNOWN: Self = Self {
        vtable: usize::MAX / 2,
        fields: (0, 0),
        order: Order::Other,
    };

    /// Where the first field of the table points to, and the position of the second one, if it has them in the usual
    /// places and a vtable that was seen before: one look at the bounds for all three. `at` has no more than 33 bits.
    #[inline(always)]
    pub(crate) fn usual(&self, buf: &[u8], at: usize) -> Option<(usize, usize)> {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *buf.get(at..at + 12)?.first_chunk()?;
        let back = i32::from_le_bytes([a, b, c, d]) as isize as usize;
        if at.wrapping_sub(back) != self.vtable {
            return None;
        }
        match self.order {
            Order::Straight => Some((at + 4 + u32::from_le_bytes([e, f, g, h]) as usize, at + 8)),
            Order::Crossed => Some((at + 8 + u32::from_le_bytes([i, j, k, l]) as usize, at + 4)),
            Order::Other => None,
        }
    }

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
        *self = Self {
            vtable,
            fields,
            order: match fields {
                (4, 8) => Order::Straight,
                (8, 4) => Order::Crossed,
                _ => Order::Other,
            },
        };
        Ok(())
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
    let rest = buf.get(at..).ok_or(Flaw::Outside)?;
    let (len, rest) = rest.split_first_chunk().ok_or(Flaw::Outside)?;
    rest.get(..u32::from_le_bytes(*len) as usize)
        .ok_or(Flaw::Length)
}

/// The position of the vtable of the table at `at`. Not checked: one before the buffer comes out as a huge number.
#[inline]
fn vtable(buf: &[u8], at: usize) -> Result<usize, Flaw> {
    let back = chunk(buf, at).ok_or(Flaw::Outside)?;
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

/// The offset in one slot; 0, which means absent, also for a slot that an older writer did not know.
#[inline]
fn slot_offset(slots: &[u8], slot: usize) -> u16 {
    chunk(slots, slot * 2).map_or(0, u16::from_le_bytes)
}

#[inline]
fn word(buf: &[u8], at: usize) -> Result<usize, Flaw> {
    match chunk(buf, at) {
        Some(word) => Ok(u32::from_le_bytes(word) as usize),
        None => Err(Flaw::Outside),
    }
}

/// As [`chunk`], for a position that cannot overflow.
#[inline(always)]
fn near<const N: usize>(buf: &[u8], at: usize) -> Option<[u8; N]> {
    buf.get(at..at + N)?.first_chunk().copied()
}

#[inline]
fn chunk<const N: usize>(buf: &[u8], at: usize) -> Option<[u8; N]> {
    // Not `at..at + N`, which would be asked for an overflow, too.
    buf.get(at..)?.first_chunk().copied()
}
