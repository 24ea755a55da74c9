//! A list of names and values: headers, args, or the conf of a route.
//!
//! Never copies; the values are slices of the frame.

use std::cell::Cell;
use std::fmt;
use std::iter::FusedIterator;

use super::Malformed;
use super::of;
use crate::protocol::flat::{Flaw, Layout, Table, bytes_at, follow};

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
        let entries = Self::open(buf, table, slot, field)?;
        match entries.first_flaw() {
            None => Ok(entries),
            Some((index, flaw)) => Err(Malformed::Entry { field, index, flaw }),
        }
    }

    /// Reads a field and leaves the entries unchecked: see [`Entries::place`].
    #[inline(always)]
    pub(super) fn open(
        buf: &'f [u8],
        table: &Table<'f>,
        slot: usize,
        field: &'static str,
    ) -> Result<Self, Malformed> {
        let Some((at, elements)) = table.vector(slot).map_err(of(field))? else {
            return Ok(Self::default());
        };
        let at = u32::try_from(at).map_err(|_| of(field)(Flaw::Outside))?;
        Ok(Self { buf, at, elements })
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

    /// Finds one entry after the other, from index `from` on, and notes where each lies; `places` has one place for
    /// each entry of the list. Checks names; values are checked by [`Entries::value`]. Ends at the first one whose name
    /// may be that of `key`; without a key at the first one.
    #[inline(never)]
    pub fn find(
        &self,
        from: usize,
        places: &[Cell<Place>],
        layout: &mut Layout,
        wanted: Option<u32>,
    ) -> Search {
        // Without a key, whatever name comes: the search ends after one entry.
        let (wanted, most) = match wanted {
            Some(key) => (key, usize::MAX),
            None => (0, 1),
        };
        let elements = self.elements.get(from..).unwrap_or_default();
        let places = places.get(from..).unwrap_or_default();
        let mut at = self.at.wrapping_add(from as u32 * 4);
        let mut index = from;
        for (element, place) in elements.iter().zip(places).take(most) {
            // Both have 32 bits and their sum does not wrap: one comparison tells whether it lies in the buffer.
            let table = at as usize + u32::from_le_bytes(*element) as usize;
            let usual = layout.usual(self.buf, table);
            let found = match usual.and_then(|(name, value)| Place::usual(self.buf, name, value)) {
                Some(found) => found,
                None => match Place::unusual(self.buf, table, layout) {
                    Ok(found) => found,
                    Err(flaw) => return Search::Broken(index, flaw),
                },
            };
            place.set(found);
            if found.key == wanted {
                return Search::Found(index);
            }
            at = at.wrapping_add(4);
            index += 1;
        }
        match most {
            1 if index > from => Search::Found(from),
            _ => Search::Ended(index),
        }
    }

    /// The name at a place that came from [`Entries::place`].
    #[inline]
    pub fn name(&self, place: Place) -> &'f [u8] {
        // Checked when the place was made: never really missing.
        text_at(self.buf, place.name as usize).unwrap_or_default()
    }

    /// The value at a place that came from [`Entries::place`].
    ///
    /// # Errors
    /// It does not lie inside of the frame.
    #[inline]
    pub fn value(&self, place: Place) -> Result<Option<&'f [u8]>, Flaw> {
        match place.value {
            0 => Ok(None),
            field => bytes_at(self.buf, follow(self.buf, field as usize)?).map(Some),
        }
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

/// How far [`Entries::find`] has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    /// The entry of this index is wanted.
    Found(usize),
    /// None of this or a higher index exists.
    Ended(usize),
    /// The entry of this index cannot be read.
    Broken(usize, Flaw),
}

/// Where one entry lies in its frame, and what tells its name from most others. Spares those who look up names
/// several times the way over the tables.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place {
    key: u32,
    /// Position of the name; 0: it has none. No text can lie at the start of a frame.
    name: u32,
    /// Position of the offset to the value; 0: it has none.
    value: u32,
}

impl Place {
    /// The place of an entry whose name is at one position and the offset to its value at the other; `None` if the name
    /// does not lie inside of the buffer.
    #[inline(always)]
    fn usual(buf: &[u8], name: usize, value: usize) -> Option<Self> {
        Some(Self {
            key: key_at(buf, name)?,
            // Both are inside of the buffer, whose length has 24 bits in a frame and here never more than 32.
            name: name as u32,
            value: value as u32,
        })
    }

    /// Reads a table whose fields lie elsewhere than usual, the first one of a list, or one that cannot be read.
    #[inline(never)]
    fn unusual(buf: &[u8], table: usize, layout: &mut Layout) -> Result<Self, Flaw> {
        let (name, value) = layout.fields(buf, table)?;
        let name = match name {
            0 => 0,
            offset => follow(buf, table + usize::from(offset))?,
        };
        let text = text_at(buf, name)?;
        let value = match value {
            0 => 0,
            offset => table + usize::from(offset),
        };
        Ok(Self {
            key: key(text),
            // As in `usual`. A value's offset that is not inside of the buffer stays outside.
            name: name as u32,
            value: u32::try_from(value).unwrap_or(u32::MAX),
        })
    }

    /// Whether the entry may have the name of this [`key`]; names that differ may have the same key.
    #[inline]
    pub fn may_be(&self, key: u32) -> bool {
        self.key == key
    }
}

/// Equal for names that differ in upper and lower case only, and hardly ever for others of the same call: the end of the
/// name, and its length.
#[inline]
pub fn key(name: &[u8]) -> u32 {
    let len = name.len() as u32;
    let end = match name.last_chunk() {
        Some(end) => u32::from_le_bytes(*end),
        None => {
            // As in the frame, where the length stands before the name.
            let mut both = [0; 8];
            both[..4].copy_from_slice(&len.to_le_bytes());
            both[4..4 + name.len()].copy_from_slice(name);
            let end = both.get(name.len()..name.len() + 4);
            end.and_then(<[u8]>::first_chunk)
                .map_or(0, |end| u32::from_le_bytes(*end))
        }
    };
    mix(end, len)
}

/// The key of the name whose length stands at `at`; `None` if it does not lie inside of `buf`.
#[inline(always)]
fn key_at(buf: &[u8], at: usize) -> Option<u32> {
    let len = u32::from_le_bytes(*buf.get(at..at + 4)?.first_chunk()?);
    let end = at + len as usize;
    // The last four bytes of length and name together.
    let end = buf.get(end..end + 4)?.first_chunk()?;
    Some(mix(u32::from_le_bytes(*end), len))
}

#[inline(always)]
fn mix(end: u32, len: u32) -> u32 {
    // The length's own bytes are among the four of a short name, too.
    (end | 0x2020_2020) ^ len << 24
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
