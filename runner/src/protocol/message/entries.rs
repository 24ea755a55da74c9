//! A list of names and values: headers, args, or the conf of a route.
//!
//! Never copies; the values are slices of the frame.

use std::fmt;
use std::iter::FusedIterator;

use super::Malformed;
use super::of;
use crate::protocol::flat::{Flaw, Layout, Table, bytes_at, follow, vector_at};

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
    elements: &'f [[u8; 4]],
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
        let Some(at) = table.field(slot) else {
            return Ok(Self::default());
        };
        let found = follow(buf, at).and_then(|at| vector_at(buf, at));
        let (at, elements) = found.map_err(of(field))?;
        let at = u32::try_from(at).map_err(|_| of(field)(Flaw::Outside))?;
        let entries = Self { buf, at, elements };
        match entries.first_flaw() {
            None => Ok(entries),
            Some((index, flaw)) => Err(Malformed::Entry { field, index, flaw }),
        }
    }

    /// Number of entries.
    #[inline]
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// No entries.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// The entry at an index, in constant time.
    #[inline]
    pub fn get(&self, index: usize) -> Option<Entry<'f>> {
        let element = self.elements.get(index)?;
        let mut layout = Layout::UNKNOWN;
        let at = self.at as usize + index * 4;
        let entry = read(self.buf, at, *element, &mut layout);
        // Checked when the message was parsed: an entry is never really missing.
        Some(entry.unwrap_or_default())
    }

    /// All entries, in the order of the frame.
    #[inline]
    pub fn iter(&self) -> Iter<'f> {
        Iter {
            buf: self.buf,
            at: self.at,
            elements: self.elements.iter(),
            layout: Layout::UNKNOWN,
        }
    }

    #[inline]
    fn first_flaw(&self) -> Option<(usize, Flaw)> {
        let mut layout = Layout::UNKNOWN;
        let mut at = self.at;
        for (index, element) in self.elements.iter().enumerate() {
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
    let (name, value) = layout.fields(buf, table)?;
    let text = |field| bytes_at(buf, follow(buf, field)?);
    Ok(Entry {
        name: name.map_or(Ok(&[][..]), text)?,
        value: value.map(text).transpose()?,
    })
}
