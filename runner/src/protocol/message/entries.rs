//! A list of names and values: headers, args, or the conf of a route.
//!
//! Never copies; the values are slices of the frame.

use std::fmt;
use std::iter::FusedIterator;

use super::place::{Alike, Place};
use super::{Malformed, of};
use crate::protocol::flat::{Flaw, Layout, Shape, Table, bytes_at, follow, word};

/// One `TextEntry`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Entry<'f> {
    /// Empty also when the frame has no name.
    pub name: &'f [u8],
    /// `None` is no value (`?flag`), `Some(b"")` an empty one (`?flag=`).
    pub value: Option<&'f [u8]>,
}

impl fmt::Debug for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value {
            None => write!(f, "{}", self.name.escape_ascii()),
            Some(value) => write!(f, "{}={}", self.name.escape_ascii(), value.escape_ascii()),
        }
    }
}

/// A checked vector of `TextEntry`; empty also when the frame has none. Order is the wire's.
///
/// Entries may overlap in a hostile frame: their lengths can sum up to far more than the frame has.
#[derive(Clone, Copy, Default)]
pub struct Entries<'f> {
    buf: &'f [u8],
    /// Position of the first element. Of 32 bits, so that the compiler sees that sums with it do not overflow.
    at: u32,
    /// Number of elements; all of them lie inside of the buffer.
    len: u32,
}

impl<'f> Entries<'f> {
    /// Reads a field and checks every entry in it.
    #[inline]
    pub(super) fn parse(
        buf: &'f [u8],
        table: &Table<'f>,
        slot: usize,
        field: &'static str,
    ) -> Result<Self, Malformed> {
        let entries = Self::open(buf, table, slot).map_err(of(field))?;
        entries.check(field)?;
        Ok(entries)
    }

    /// Checks every entry; `field` is the list's name in the schema.
    #[inline]
    pub(super) fn check(&self, field: &'static str) -> Result<(), Malformed> {
        match self.first_flaw() {
            None => Ok(()),
            Some((index, flaw)) => Err(Malformed::Entry { field, index, flaw }),
        }
    }

    /// Reads a field and leaves the entries unchecked: see [`Entries::place`].
    #[inline(always)]
    pub(super) fn open(buf: &'f [u8], table: &Table<'f>, slot: usize) -> Result<Self, Flaw> {
        let (at, len) = table.vector(slot)?.unwrap_or((0, 0));
        match (u32::try_from(at), u32::try_from(len)) {
            (Ok(at), Ok(len)) => Ok(Self { buf, at, len }),
            _ => Err(Flaw::Outside),
        }
    }

    #[inline]
    fn elements(&self) -> &'f [[u8; 4]] {
        let (at, len) = (self.at as usize, self.len as usize);
        let elements = self.buf.get(at..at + len * 4);
        elements.unwrap_or_default().as_chunks().0
    }

    /// Number of entries.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// No entries.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entry at an index, in constant time.
    #[inline]
    pub fn get(&self, index: usize) -> Option<Entry<'f>> {
        let element = self.elements().get(index)?;
        let mut layout = Layout::UNKNOWN;
        let at = self.at as usize + index * 4;
        let entry = read(self.buf, at, *element, &mut layout);
        // Checked when the message was parsed: an entry is never really missing.
        Some(entry.unwrap_or_default())
    }

    /// How the table of the first entry looks, if it looks as usual.
    #[inline]
    pub fn shape(&self) -> Option<Shape> {
        let first = self.elements().first()?;
        let table = self.at as usize + u32::from_le_bytes(*first) as usize;
        Shape::of(self.buf, table)
    }

    /// Goes over the entries, as far as they look like this: `NAME` and `VALUE` belong to the [`Shape`].
    #[inline(always)]
    pub fn alike<const NAME: usize, const VALUE: usize>(
        &self,
        vtable: usize,
    ) -> Alike<'f, NAME, VALUE> {
        Alike {
            buf: self.buf,
            at: self.at,
            elements: self.elements().iter(),
            vtable,
        }
    }

    /// Where the entry at an index lies.
    ///
    /// # Errors
    /// Its table or its name cannot be read, or there is none.
    pub fn place(&self, index: usize, layout: &mut Layout) -> Result<Place<'f>, Flaw> {
        let element = self.elements().get(index).ok_or(Flaw::Outside)?;
        let table = self.at as usize + index * 4 + u32::from_le_bytes(*element) as usize;
        Place::read(self.buf, table, layout)
    }

    /// The value of the entry at a place of this list.
    ///
    /// # Errors
    /// It does not lie inside of the frame.
    #[inline(always)]
    pub fn value(&self, place: &Place<'f>) -> Result<Option<&'f [u8]>, Flaw> {
        if place.value == 0 {
            return Ok(None);
        }
        // Positions of 32 bits and less than 34: their sums do not wrap, so one comparison each tells that it lies inside.
        let field = place.value as usize;
        let text = field + word(self.buf, field)?;
        let (text, len) = (text + 4, word(self.buf, text)?);
        let bytes = self.buf.get(text..text + len);
        bytes.ok_or(Flaw::Length).map(Some)
    }

    /// All entries, in the order of the frame.
    #[inline]
    pub fn iter(&self) -> Iter<'f> {
        Iter {
            buf: self.buf,
            at: self.at,
            elements: self.elements().iter(),
            layout: Layout::UNKNOWN,
        }
    }

    #[inline]
    fn first_flaw(&self) -> Option<(usize, Flaw)> {
        let mut layout = Layout::UNKNOWN;
        let mut at = self.at;
        for (index, element) in self.elements().iter().enumerate() {
            if let Err(flaw) = read(self.buf, at as usize, *element, &mut layout) {
                return Some((index, flaw));
            }
            at = at.wrapping_add(4);
        }
        None
    }
}

impl fmt::Debug for Entries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Equal names and values in equal order, wherever they lie in their frames.
impl PartialEq for Entries<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Entries<'_> {}

impl<'f> IntoIterator for Entries<'f> {
    type Item = Entry<'f>;
    type IntoIter = Iter<'f>;

    #[inline]
    fn into_iter(self) -> Iter<'f> {
        self.iter()
    }
}

impl<'f> IntoIterator for &Entries<'f> {
    type Item = Entry<'f>;
    type IntoIter = Iter<'f>;

    #[inline]
    fn into_iter(self) -> Iter<'f> {
        self.iter()
    }
}

/// Iterator over [`Entries`].
#[derive(Debug, Clone)]
pub struct Iter<'f> {
    buf: &'f [u8],
    at: u32,
    elements: std::slice::Iter<'f, [u8; 4]>,
    layout: Layout,
}

impl<'f> Iterator for Iter<'f> {
    type Item = Entry<'f>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'f>> {
        let element = self.elements.next()?;
        let at = self.at as usize;
        self.at = self.at.wrapping_add(4);
        // As in `get`.
        Some(read(self.buf, at, *element, &mut self.layout).unwrap_or_default())
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.elements.size_hint()
    }

    #[inline]
    fn count(self) -> usize {
        self.elements.len()
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl FusedIterator for Iter<'_> {}

/// The entry that the element at `at`, an offset, points to.
#[inline]
fn read<'f>(
    buf: &'f [u8],
    at: usize,
    element: [u8; 4],
    layout: &mut Layout,
) -> Result<Entry<'f>, Flaw> {
    let table = at + u32::from_le_bytes(element) as usize;
    let (name, value) = locate(buf, table, layout)?;
    Ok(Entry {
        name: text_at(buf, name)?,
        value: (value != 0).then(|| text_at(buf, value)).transpose()?,
    })
}

/// The positions of name and value of the entry in a table; 0 for one that is absent, as an offset never leads back to
/// the start.
#[inline]
fn locate(buf: &[u8], table: usize, layout: &mut Layout) -> Result<(usize, usize), Flaw> {
    let (name, value) = layout.fields(buf, table)?;
    let name = match name {
        0 => 0,
        offset => follow(buf, table + usize::from(offset))?,
    };
    let value = match value {
        0 => 0,
        offset => follow(buf, table + usize::from(offset))?,
    };
    Ok((name, value))
}

/// The text whose length stands at a position that is not 0.
#[inline]
fn text_at(buf: &[u8], at: usize) -> Result<&[u8], Flaw> {
    if at == 0 {
        return Ok(&[]);
    }
    bytes_at(buf, at)
}
