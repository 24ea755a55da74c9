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
}

impl<'o> Writer<'o> {
    /// Starts a payload at the end of `out` with its root table; returns the position of the table's first field.
    #[inline]
    pub(crate) fn root<const N: usize>(out: &'o mut Vec<u8>, cells: [Cell; N]) -> (Self, usize) {
        let base = out.len();
        let mut writer = Self { out };
        writer.out.extend_from_slice(&[0; 4]);
        let first = writer.table(base, cells);
        (writer, first)
    }

    /// Appends a table that the field at `from` points to; returns the position of its first field.
    #[inline]
    pub(crate) fn table<const N: usize>(&mut self, from: usize, cells: [Cell; N]) -> usize {
        // The vtable stands right before its table; the padding goes before both.
        let vtable = (2 + N) * 2;
        self.zeros(vtable % 4);
        self.short(vtable);
        self.short(4 + N * 4);
        for (i, cell) in cells.iter().enumerate() {
            let there = !matches!(cell, Cell::Absent);
            self.short(if there { 4 + i * 4 } else { 0 });
        }
        self.place(from);
        self.word(vtable);
        let first = self.out.len();
        for cell in cells {
            let value = if let Cell::Value(value) = cell {
                value
            } else {
                0
            };
            self.out.extend_from_slice(&value.to_le_bytes());
        }
        first
    }

    /// Lets the offset field at `from` point to what is appended next.
    #[inline]
    pub(crate) fn place(&mut self, from: usize) {
        // A payload too long for an offset is too long for a frame: the caller drops it.
        let offset = (self.out.len() - from) as u32;
        if let Some(field) = self.out.get_mut(from..from + 4) {
            field.copy_from_slice(&offset.to_le_bytes());
        }
    }

    /// Appends a `[ubyte]` that the field at `from` points to.
    #[inline]
    pub(crate) fn bytes(&mut self, from: usize, bytes: &[u8]) {
        self.place(from);
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
        let vector = self.out.len();
        self.word(len);
        self.zeros(len * 4);
        let mut vtables = [None; 2];
        let mut written = 0;
        for (first, second) in pairs.take(len) {
            let slot = vector + 4 + written * 4;
            self.pair(slot, &mut vtables, first, second);
            written += 1;
        }
        // An iterator that ends early leaves unused bytes behind, no dangling element.
        if let Some(count) = self.out.get_mut(vector..vector + 4) {
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
        self.word(self.out.len() - vtable);
        self.word(8);
        self.word(8 + padded(first.len() + 1));
        self.text(first);
        if let Some(second) = second {
            self.text(second);
        }
    }

    #[inline]
    fn vtable(&mut self, shorts: [u16; 4]) -> usize {
        let at = self.out.len();
        for short in shorts {
            self.out.extend_from_slice(&short.to_le_bytes());
        }
        at
    }

    #[inline]
    fn text(&mut self, text: &[u8]) {
        self.word(text.len());
        self.out.extend_from_slice(text);
        self.zeros(padded(text.len() + 1) - text.len());
    }

    #[inline]
    fn short(&mut self, value: usize) {
        self.out.extend_from_slice(&(value as u16).to_le_bytes());
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

#[inline]
const fn padded(len: usize) -> usize {
    len.next_multiple_of(4)
}
