//! Names and values of a call: those of the frame, and over them what plugins have changed. Nothing of the frame is
//! copied.

use std::cell::Cell;
use std::slice;

use bumpalo::Bump;
use bumpalo::collections::Vec;

use super::index::Index;
use crate::protocol::message::Entry;

/// One map of a call: request headers, arguments, response headers.
#[derive(Debug, Clone)]
pub struct Overlay<'c> {
    base: Option<&'c Base<'c>>,
    /// Header names are the same in upper and lower case; names of arguments are not.
    any_case: bool,
    changes: Vec<'c, Change<'c>>,
}

/// What the frame has, and how far those have come who walk over it.
#[derive(Debug)]
pub struct Base<'c> {
    /// The frame's list.
    pub index: Index<'c>,
    /// Where the last look-up by index ended: (index, index in the frame's list). Makes walking over all entries
    /// linear.
    cursor: Cell<(usize, usize)>,
    /// Where the last look-up of a second or later value ended: (`nth`, index in the frame's list). Makes walking over
    /// all values of a name linear: a client may send thousands.
    value_cursor: Cell<(usize, usize)>,
}

impl<'c> Base<'c> {
    /// Nobody has looked at it.
    #[inline]
    pub fn new(index: Index<'c>) -> Self {
        Self {
            index,
            cursor: Cell::default(),
            value_cursor: Cell::default(),
        }
    }

    fn entries(&'c self) -> impl Iterator<Item = Entry<'c>> + Clone + use<'c> {
        (0..).map_while(|at| self.index.entry(at))
    }
}

/// A name that plugins have changed. It hides the name in the frame.
#[derive(Debug, Clone)]
pub struct Change<'c> {
    /// As the plugin wrote it.
    pub name: &'c [u8],
    /// Empty: removed.
    pub values: Vec<'c, Option<&'c [u8]>>,
}

/// Iterator over what plugins have put in; it knows how much is left.
#[derive(Debug, Clone)]
pub struct Changed<'s, 'c> {
    /// Of the change in hand, as its values.
    name: &'c [u8],
    values: slice::Iter<'s, Option<&'c [u8]>>,
    changes: slice::Iter<'s, Change<'c>>,
    /// As the gateway takes them: see [`Overlay::edits`].
    as_edits: bool,
}

impl<'c> Iterator for Changed<'_, 'c> {
    type Item = Entry<'c>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'c>> {
        loop {
            let name = self.name;
            if let Some(value) = self.values.next() {
                let value = match value {
                    None if self.as_edits => Some(&[][..]),
                    value => *value,
                };
                return Some(Entry { name, value });
            }
            let change = self.changes.next()?;
            self.name = change.name;
            self.values = change.values.iter();
            if self.as_edits && change.values.is_empty() {
                let (name, value) = (change.name, None);
                return Some(Entry { name, value });
            }
        }
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let least = usize::from(self.as_edits);
        let len = |change: &Change<'_>| change.values.len().max(least);
        let left = self.values.len() + self.changes.as_slice().iter().map(len).sum::<usize>();
        (left, Some(left))
    }
}

impl<'c> Overlay<'c> {
    /// The entries of a frame, unchanged.
    #[inline]
    pub fn new(base: &'c Base<'c>, any_case: bool, arena: &'c Bump) -> Self {
        Self {
            base: Some(base),
            ..Self::empty(any_case, arena)
        }
    }

    /// No entries.
    #[inline]
    pub fn empty(any_case: bool, arena: &'c Bump) -> Self {
        Self {
            base: None,
            any_case,
            changes: Vec::new_in(arena),
        }
    }

    /// Value `nth` of a name: `None` when there is none, `Some(None)` for a name without a value.
    #[inline(always)]
    pub fn get(&self, name: &[u8], nth: usize) -> Option<Option<&'c [u8]>> {
        match self.change(name) {
            Some(change) => change.values.get(nth).copied(),
            None if nth == 0 => {
                let base = self.base?;
                Some(base.index.value(self.find(base, name, 0)?))
            }
            None => self.later_value(name, nth),
        }
    }

    fn later_value(&self, name: &[u8], nth: usize) -> Option<Option<&'c [u8]>> {
        let base = self.base?;
        let (seen, at) = base.value_cursor.get();
        let goes_on = seen < nth && seen > 0 && self.find(base, name, at) == Some(at);
        let (mut seen, mut from) = if goes_on { (seen, at) } else { (0, 0) };
        loop {
            let at = self.find(base, name, from)?;
            if seen == nth {
                base.value_cursor.set((nth, at));
                return Some(base.index.value(at));
            }
            seen += 1;
            from = at + 1;
        }
    }

    /// The next entry of the frame with a name, from an index on.
    #[inline(always)]
    fn find(&self, base: &Base<'c>, name: &[u8], from: usize) -> Option<usize> {
        base.index
            .find(name, from, |one, other| self.same(one, other))
    }

    fn base_entries(&self) -> impl Iterator<Item = Entry<'c>> + Clone + use<'c> {
        self.base.into_iter().flat_map(Base::entries)
    }

    /// Entry `index` of all.
    pub fn entry(&self, index: usize) -> Option<Entry<'c>> {
        let Some(base) = self.base else {
            return self.changed_entries().nth(index);
        };
        if self.changes.is_empty() {
            return base.index.entry(index);
        }
        let (mut at, mut in_base) = match base.cursor.get() {
            (seen, in_base) if seen <= index => (seen, in_base),
            _ => (0, 0),
        };
        while let Some(entry) = base.index.entry(in_base) {
            if self.change(entry.name).is_none() {
                if at == index {
                    base.cursor.set((at, in_base));
                    return Some(entry);
                }
                at += 1;
            }
            in_base += 1;
        }
        self.changed_entries().nth(index - at)
    }

    /// To be called when a copy of the map has taken its place: other names are hidden now.
    pub fn forget_cursor(&self) {
        if let Some(base) = self.base {
            base.cursor.set((0, 0));
        }
    }

    /// Puts `value` in place of all values of a name.
    #[inline]
    pub fn set(&mut self, name: &[u8], value: &'c [u8]) {
        let change = self.change_mut(name, false);
        change.values.clear();
        change.values.push(Some(value));
    }

    /// Puts `value` beside the values of a name.
    pub fn add(&mut self, name: &[u8], value: &'c [u8]) {
        self.change_mut(name, true).values.push(Some(value));
    }

    /// Removes a name.
    pub fn remove(&mut self, name: &[u8]) {
        if self.get(name, 0).is_some() {
            self.change_mut(name, false).values.clear();
        }
    }

    /// What plugins have changed.
    pub fn changes(&self) -> &[Change<'c>] {
        &self.changes
    }

    /// What the frame has of the names that no plugin has changed.
    pub fn unchanged(&self) -> impl Iterator<Item = Entry<'c>> + Clone + '_ {
        self.base_entries()
            .filter(|entry| self.change(entry.name).is_none())
    }

    /// The values that plugins have put in, by name.
    pub fn changed_entries(&self) -> Changed<'_, 'c> {
        self.changed(false)
    }

    /// All changes, as the gateway takes them: a name without a value deletes. A name that plugins have given more values
    /// keeps those of the client, where a flag then has an empty value.
    pub fn edits(&self) -> Changed<'_, 'c> {
        self.changed(true)
    }

    #[inline]
    fn changed(&self, as_edits: bool) -> Changed<'_, 'c> {
        Changed {
            name: b"",
            values: [].iter(),
            changes: self.changes.iter(),
            as_edits,
        }
    }

    /// Whether a plugin has changed a name.
    #[inline]
    pub fn change(&self, name: &[u8]) -> Option<&Change<'c>> {
        self.changes
            .iter()
            .find(|change| self.same(change.name, name))
    }

    /// A change's name is copied once, however many plugins write it.
    #[inline]
    fn change_mut(&mut self, name: &[u8], keep: bool) -> &mut Change<'c> {
        self.forget_cursor();
        let at = self
            .changes
            .iter()
            .position(|change| self.same(change.name, name));
        let at = at.unwrap_or_else(|| {
            // Nearly always it comes to be one value.
            let mut values = Vec::with_capacity_in(1, self.changes.bump());
            if keep {
                values.extend(self.base_values(name));
            }
            let name = self.changes.bump().alloc_slice_copy(name);
            self.changes.push(Change { name, values });
            self.changes.len() - 1
        });
        &mut self.changes[at]
    }

    fn base_values(&self, name: &[u8]) -> impl Iterator<Item = Option<&'c [u8]>> {
        self.base_entries()
            .filter(move |entry| self.same(entry.name, name))
            .map(|entry| entry.value)
    }

    #[inline]
    fn same(&self, one: &[u8], other: &[u8]) -> bool {
        if one.len() != other.len() {
            return false;
        }
        // Gateway: names come in lower case, and most authors write them so.
        one == other || self.any_case && one.eq_ignore_ascii_case(other)
    }
}
