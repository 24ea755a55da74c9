//! Writes a buffer front to back: a table first, then what it points to.
//!
//! Every field takes a cell of four bytes, used or not. That wastes a few bytes, keeps everything aligned, and makes a
//! table's shape a constant. Text gets its NUL and everything starts at a multiple of four from the start of the
//! payload, so strict readers take it too.

/// One field of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cell {
    /// Not there.
    Absent,
    /// A number, of at most the width the schema gives the field.
    Value(u32),
    /// An offset, set by [`Writer::place`] and its kin.
    Offset,
}

impl Cell {
    /// An offset if there is something to point to.
    pub(crate) fn offset_if(there: bool) -> Self {
        if there { Self::Offset } else { Self::Absent }
    }
}

/// Appends one payload to a buffer that may already hold other things.
#[derive(Debug)]
pub(crate) struct Writer<'o> {
    out: &'o mut Vec<u8>,
    base: usize,
}

impl<'o> Writer<'o> {
    /// Starts a payload at the end of `out` with its root table; returns the position of the table's first field.
    #[inline]
    pub(crate) fn root<const N: usize>(out: &'o mut Vec<u8>, cells: [Cell; N]) -> (Self, usize) {
        let base = out.len();
        let mut writer = Self { out, base };
        writer.out.extend_from_slice(&[0; 4]);
        let first = writer.table(base, cells);
        (writer, first)
    }

    /// Starts a payload at the end of `out` with these bytes of it, a multiple of four.
    #[inline]
    pub(crate) fn head(out: &'o mut Vec<u8>, head: &[u8]) -> Self {
        let base = out.len();
        out.extend_from_slice(head);
        Self { out, base }
    }

    /// Appends a table that the field at `from` points to; returns the position of its first field.
    #[inline]
    pub(crate) fn table<const N: usize>(&mut self, from: usize, cells: [Cell; N]) -> usize {
        const { assert!(N <= MOST_FIELDS) };
        // The vtable stands right before its table; the padding goes before both.
        let len = 4 + N * 2;
        let vtable = len % 4;
        let table = vtable + len;
        let mut image = [0; 6 + MOST_FIELDS * 2 + 4 + MOST_FIELDS * 4];
        put(&mut image, vtable, (len as u16).to_le_bytes());
        put(&mut image, vtable + 2, (4 + N as u16 * 4).to_le_bytes());
        put(&mut image, table, (len as u32).to_le_bytes());
        for (i, cell) in cells.into_iter().enumerate() {
            let field = 4 + i * 4;
            if !matches!(cell, Cell::Absent) {
                put(&mut image, vtable + 4 + i * 2, (field as u16).to_le_bytes());
            }
            if let Cell::Value(value) = cell {
                put(&mut image, table + field, value.to_le_bytes());
            }
        }
        let start = self.out.len();
        self.out.extend_from_slice(&image[..table + 4 + N * 4]);
        self.point(from, start + table);
        start + table + 4
    }

    /// Lets the offset field at `from` point to what is appended next.
    #[inline]
    pub(crate) fn place(&mut self, from: usize) {
        self.point(from, self.out.len());
    }

    #[inline]
    fn point(&mut self, from: usize, to: usize) {
        // A payload too long for an offset is too long for a frame: the caller drops it.
        let offset = (to - from) as u32;
        if let Some(field) = self.out.get_mut(from..from + 4) {
            field.copy_from_slice(&offset.to_le_bytes());
        }
    }

    /// Appends a `[ubyte]` that the field at `from` points to.
    #[inline]
    pub(crate) fn bytes(&mut self, from: usize, bytes: &[u8]) {
        self.place(from);
        // At once: room for the zeros alone would be made by moving a large body once more.
        self.out.reserve(4 + padded(bytes.len()));
        self.word(bytes.len());
        self.out.extend_from_slice(bytes);
        self.zeros(padded(bytes.len()) - bytes.len());
    }

    /// Appends a string that the field at `from` points to.
    #[inline]
    pub(crate) fn string(&mut self, from: usize, text: &[u8]) {
        self.place(from);
        self.text(text);
    }

    /// Appends the vector of two-string tables that the field at `from` points to. A pair without a second string
    /// has no second field.
    #[inline]
    pub(crate) fn pairs<'a>(
        &mut self,
        from: usize,
        len: usize,
        pairs: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) {
        self.place(from);
        self.word(len);
        self.elements(len, pairs);
    }

    /// Appends the elements of such a vector, whose length has been appended.
    #[inline]
    pub(crate) fn elements<'a>(
        &mut self,
        len: usize,
        pairs: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) {
        let first_slot = self.out.len();
        for _ in 0..len {
            self.word(0);
        }
        let mut vtables = [None; 2];
        let mut slot = first_slot;
        for (first, second) in pairs.take(len) {
            self.pair(slot, &mut vtables, first, second);
            slot += 4;
        }
        let written = (slot - first_slot) / 4;
        // An iterator that ends early leaves unused bytes behind, no dangling element.
        if written < len
            && let Some(count) = self.out.get_mut(first_slot - 4..first_slot)
        {
            count.copy_from_slice(&(written as u32).to_le_bytes());
        }
    }

    #[inline]
    fn pair(
        &mut self,
        slot: usize,
        vtables: &mut [Option<usize>; 2],
        first: &[u8],
        second: Option<&[u8]>,
    ) {
        let vtable = match second {
            Some(_) => *vtables[0].get_or_insert_with(|| self.vtable([8, 12, 4, 8])),
            None => *vtables[1].get_or_insert_with(|| self.vtable([8, 12, 4, 0])),
        };
        self.place(slot);
        // The first string follows the table's three words, the second follows the first: both distances are known.
        let words = [
            self.out.len() - vtable,
            8,
            8 + padded(first.len() + 1),
            first.len(),
        ];
        let mut image = [0; 16];
        for (i, word) in words.into_iter().enumerate() {
            put(&mut image, i * 4, (word as u32).to_le_bytes());
        }
        self.out.extend_from_slice(&image);
        self.out.extend_from_slice(first);
        self.terminate();
        if let Some(second) = second {
            self.text(second);
        }
    }

    #[inline]
    fn vtable(&mut self, shorts: [u16; 4]) -> usize {
        let at = self.out.len();
        let mut image = [0; 8];
        for (i, short) in shorts.into_iter().enumerate() {
            put(&mut image, i * 2, short.to_le_bytes());
        }
        self.out.extend_from_slice(&image);
        at
    }

    #[inline]
    fn text(&mut self, text: &[u8]) {
        self.word(text.len());
        self.out.extend_from_slice(text);
        self.terminate();
    }

    /// Appends a NUL and more zeros up to a multiple of four.
    #[inline]
    fn terminate(&mut self) {
        let end = self.base + padded(self.out.len() - self.base + 1);
        // Four and then fewer: two stores of a known size are cheaper than a loop.
        self.out.extend_from_slice(&[0; 4]);
        self.out.truncate(end);
    }

    #[inline]
    fn word(&mut self, value: usize) {
        self.out.extend_from_slice(&(value as u32).to_le_bytes());
    }

    #[inline]
    fn zeros(&mut self, count: usize) {
        self.out.resize(self.out.len() + count, 0);
    }
}

/// Fields of the largest table (`Rewrite`).
const MOST_FIELDS: usize = 5;

/// Sets a few bytes of a table that is put together before it is appended.
#[inline]
fn put<const N: usize>(image: &mut [u8], at: usize, bytes: [u8; N]) {
    image[at..at + N].copy_from_slice(&bytes);
}

#[inline]
const fn padded(len: usize) -> usize {
    // `next_multiple_of` asks whether it overflows; lengths never do.
    (len + 3) & !3
}
