//! Names and values of a call: those of the frame, and over them what plugins have changed. Nothing of the frame is
//! copied.

use std::cell::Cell;

use bumpalo::Bump;
use bumpalo::collections::Vec;

use crate::protocol::message::{Entries, Entry, Malformed, Place, key};

/// One map of a call: request headers, arguments, response headers.
#[derive(Debug, Clone)]
pub struct Overlay<'c> {
    base: Entries<'c>,
    /// Of `base`, one for each entry.
    places: &'c [Place],
    /// Header names are the same in upper and lower case; names of arguments are not.
    any_case: bool,
    changes: Vec<'c, Change<'c>>,
    /// Where the last look-up by index ended: (index, index in `base`). Makes walking over all entries linear.
    cursor: Cell<(usize, usize)>,
    /// Where the last look-up of a second or later value ended: (`nth`, index in `base`). Makes walking over all
    /// values of a name linear: a client may send thousands.
    value_cursor: Cell<(usize, usize)>,
}

/// The entries of a frame, checked.
#[derive(Debug, Clone, Copy, Default)]
pub struct List<'c> {
    base: Entries<'c>,
    places: &'c [Place],
}

impl<'c> List<'c> {
    /// Checks every entry; `field` is the list's name in the schema.
    ///
    /// # Errors
    /// The first entry that cannot be read.
    pub fn check(
        base: Entries<'c>,
        field: &'static str,
        arena: &'c Bump,
    ) -> Result<Self, Malformed> {
        let places = arena.alloc_slice_fill_copy(base.len(), Place::default());
        base.check(field, places)?;
        Ok(Self { base, places })
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

impl<'c> Overlay<'c> {
    /// The entries of a frame, unchanged.
    #[inline]
    pub fn new(list: List<'c>, any_case: bool, arena: &'c Bump) -> Self {
        let List { base, places } = list;
        Self {
            base,
            places,
            any_case,
            changes: Vec::new_in(arena),
            cursor: Cell::default(),
            value_cursor: Cell::default(),
        }
    }

    /// No entries.
    #[inline]
    pub fn empty(any_case: bool, arena: &'c Bump) -> Self {
        Self::new(List::default(), any_case, arena)
    }

    /// Value `nth` of a name: `None` when there is none, `Some(None)` for a name without a value.
    #[inline]
    pub fn get(&self, name: &[u8], nth: usize) -> Option<Option<&'c [u8]>> {
        match self.change(name) {
            Some(change) => change.values.get(nth).copied(),
            None if nth == 0 => self.find(name, 0).map(|at| self.value(at)),
            None => self.later_value(name, nth),
        }
    }

    fn later_value(&self, name: &[u8], nth: usize) -> Option<Option<&'c [u8]>> {
        let (seen, at) = self.value_cursor.get();
        let goes_on = seen < nth && seen > 0 && self.find(name, at) == Some(at);
        let (mut seen, mut from) = if goes_on { (seen, at) } else { (0, 0) };
        loop {
            let at = self.find(name, from)?;
            if seen == nth {
                self.value_cursor.set((nth, at));
                return Some(self.value(at));
            }
            seen += 1;
            from = at + 1;
        }
    }

    /// The next entry of `base` with a name, from index `from` on.
    #[inline]
    fn find(&self, name: &[u8], from: usize) -> Option<usize> {
        let key = key(name);
        let is_it = |place: &Place| place.may_be(key) && self.same(self.base.name(*place), name);
        let found = self.places.get(from..)?.iter().position(is_it)?;
        Some(from + found)
    }

    fn value(&self, at: usize) -> Option<&'c [u8]> {
        self.base.value(*self.places.get(at)?)
    }

    fn base_entry(&self, at: usize) -> Option<Entry<'c>> {
        Some(self.base.at(*self.places.get(at)?))
    }

    fn base_entries(&self) -> impl Iterator<Item = Entry<'c>> + Clone + use<'c> {
        let base = self.base;
        self.places.iter().map(move |place| base.at(*place))
    }

    /// Entry `index` of all.
    pub fn entry(&self, index: usize) -> Option<Entry<'c>> {
        if self.changes.is_empty() {
            return self.base_entry(index);
        }
        let (mut at, mut in_base) = match self.cursor.get() {
            (seen, in_base) if seen <= index => (seen, in_base),
            _ => (0, 0),
        };
        while let Some(entry) = self.base_entry(in_base) {
            if self.change(entry.name).is_none() {
                if at == index {
                    self.cursor.set((at, in_base));
                    return Some(entry);
                }
                at += 1;
            }
            in_base += 1;
        }
        self.changed_entries().nth(index - at)
    }

    /// Puts `value` in place of all values of a name.
    pub fn set(&mut self, name: &'c [u8], value: &'c [u8]) {
        let change = self.change_mut(name, false);
        change.values.clear();
        change.values.push(Some(value));
    }

    /// Puts `value` beside the values of a name.
    pub fn add(&mut self, name: &'c [u8], value: &'c [u8]) {
        self.change_mut(name, true).values.push(Some(value));
    }

    /// Removes a name.
    pub fn remove(&mut self, name: &'c [u8]) {
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
    pub fn changed_entries(&self) -> impl Iterator<Item = Entry<'c>> + Clone + '_ {
        self.changes.iter().flat_map(|change| {
            let name = change.name;
            change.values.iter().map(move |value| Entry {
                name,
                value: *value,
            })
        })
    }

    /// Whether a plugin has changed a name.
    pub fn change(&self, name: &[u8]) -> Option<&Change<'c>> {
        self.changes
            .iter()
            .find(|change| self.same(change.name, name))
    }

    fn change_mut(&mut self, name: &'c [u8], keep: bool) -> &mut Change<'c> {
        self.cursor.set((0, 0));
        let at = self
            .changes
            .iter()
            .position(|change| self.same(change.name, name));
        let at = at.unwrap_or_else(|| {
            let mut values = Vec::new_in(self.changes.bump());
            if keep {
                values.extend(self.base_values(name));
            }
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
