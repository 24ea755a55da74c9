//! Where the entries of a list lie, for those who look up names in it several times: found in one pass over the list.
//!
//! Checks tables and names. A value is checked when it is asked for: see [`Entries::value`](super::Entries::value).

use std::slice;

use crate::protocol::flat::{Flaw, Layout, bytes_at, follow, near, word};

/// Where one entry lies in its frame.
#[derive(Debug, Clone, Copy)]
pub struct Place<'f> {
    /// Empty also when the entry has none.
    pub name: &'f [u8],
    /// Position of the offset to the value; 0: it has none.
    pub(super) value: u32,
}

impl<'f> Place<'f> {
    /// The place of the entry in a table.
    pub(super) fn read(buf: &'f [u8], table: usize, layout: &mut Layout) -> Result<Self, Flaw> {
        let (name, value) = layout.fields(buf, table)?;
        let name = match name {
            0 => &[],
            offset => bytes_at(buf, follow(buf, table + usize::from(offset))?)?,
        };
        let value = match value {
            0 => 0,
            offset => table + usize::from(offset),
        };
        // As in `Alike`. A value's offset that is not inside of the buffer stays outside.
        let value = u32::try_from(value).unwrap_or(u32::MAX);
        Ok(Self { name, value })
    }
}

/// Goes over entries whose tables look alike: nearly always all of a list. `NAME` and `VALUE` are the positions of both
/// offsets, relative to their table.
#[derive(Debug)]
pub struct Alike<'f, const NAME: usize, const VALUE: usize> {
    pub(super) buf: &'f [u8],
    /// Position of the next element.
    pub(super) at: u32,
    pub(super) elements: slice::Iter<'f, [u8; 4]>,
    pub(super) vtable: usize,
}

impl<'f, const NAME: usize, const VALUE: usize> Alike<'f, NAME, VALUE> {
    /// The place of the next entry; `None` if there is none, if its table looks different, or if it cannot be read.
    #[inline(always)]
    pub fn find(&mut self) -> Option<Place<'f>> {
        let buf = self.buf;
        let element = self.elements.next()?;
        // Both have 32 bits, so sums with them do not wrap: one comparison each tells whether what is read lies inside.
        let table = self.at as usize + u32::from_le_bytes(*element) as usize;
        self.at = self.at.wrapping_add(4);
        let fields = near::<12>(buf, table)?;
        let back = i32::from_le_bytes(near(&fields, 0)?) as isize as usize;
        if table.wrapping_sub(back) != self.vtable {
            return None;
        }
        let name = table + NAME + word(&fields, NAME).ok()?;
        let (text, len) = (name + 4, word(buf, name).ok()?);
        Some(Place {
            name: buf.get(text..text + len)?,
            // It is inside of the buffer, whose length has 24 bits in a frame and here never more than 32.
            value: (table + VALUE) as u32,
        })
    }
}
