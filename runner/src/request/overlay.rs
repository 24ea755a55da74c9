//! Names and values of a call: those of the frame, and over them what plugins have changed. Nothing of the frame is
//! copied.

use std::cell::Cell;
use std::ops::Deref;
use std::slice;

use bumpalo::Bump;
use bumpalo::collections::Vec;

use super::index::Index;
use super::names::{same, same_at_once};
use crate::protocol::message::Entry;

/// One map of a call: request headers, arguments, response headers.
#[derive(Debug, Clone)]
pub struct Overlay<'c> {
    base: Option<&'c Base<'c>>,
    /// Header names are the same in upper and lower case; names of arguments are not.
    any_case: bool,
    /// `None` in most maps of most calls, which then cost nothing.
    changes: Option<Vec<'c, Change<'c>>>,
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
    pub values: Values<'c>,
}

/// The values of a name, in order.
#[derive(Debug, Clone)]
pub enum Values<'c> {
    /// Nearly always.
    One([Option<&'c [u8]>; 1]),
    /// Several or none.
    Any(Vec<'c, Option<&'c [u8]>>),
}

impl<'c> Values<'c> {
    fn push(&mut self, value: &'c [u8], arena: &'c Bump) {
        if let Self::One(one) = self {
            *self = Self::Any(Vec::from_iter_in(*one, arena));
        }
        if let Self::Any(any) = self {
            any.push(Some(value));
        }
    }
}

impl<'c> Deref for Values<'c> {
    type Target = [Option<&'c [u8]>];

    #[inline]
    fn deref(&self) -> &Self::Target {
        match self {
            Self::One(one) => one,
            Self::Any(any) => any,
        }
    }
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
    pub fn new(base: &'c Base<'c>, any_case: bool) -> Self {
        Self {
            base: Some(base),
            any_case,
            changes: None,
        }
    }

    /// No entries.
    #[inline]
    pub fn empty(any_case: bool) -> Self {
        Self {
            base: None,
            any_case,
            changes: None,
        }
    }

    /// Value `nth` of a name: `None` when there is none, `Some(None)` for a name without a value.
    #[inline]
    pub fn get(&self, name: &[u8], nth: usize) -> Option<Option<&'c [u8]>> {
        match self.change(name) {
            Some(change) => change.values.get(nth).copied(),
            None if nth == 0 => self.base?.index.first(name, self.any_case),
            None => self.later_value(name, nth),
        }
    }

    /// The first value of a name, if it can be told in a few steps: see [`Overlay::get`] for whatever this does not tell.
    /// Never panics, calls nothing.
    #[inline(always)]
    pub fn quick(&self, name: &[u8]) -> Option<&'c [u8]> {
        if let Some(changes) = &self.changes {
            let mut changes = changes.iter();
            if changes.any(|change| change.name.len() == name.len()) {
                return None;
            }
        }
        self.base?.index.quick(name)
    }

    /// Nobody has looked into what the frame has.
    #[inline(always)]
    pub fn is_unread(&self) -> bool {
        self.base.is_some_and(|base| base.index.is_unread())
    }

    /// Looks into it for the first time; `false`: nothing is there, or it cannot be read.
    pub fn begin(&self) -> bool {
        self.base.is_some_and(|base| base.index.go_on().is_some())
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
                return base.index.entry(at).map(|entry| entry.value);
            }
            seen += 1;
            from = at + 1;
        }
    }

    /// The next entry of the frame with a name, from an index on.
    #[inline(always)]
    fn find(&self, base: &Base<'c>, name: &[u8], from: usize) -> Option<usize> {
        base.index.find(from, name, self.any_case)
    }

    fn base_entries(&self) -> impl Iterator<Item = Entry<'c>> + Clone + use<'c> {
        self.base.into_iter().flat_map(Base::entries)
    }

    /// Entry `index` of all.
    pub fn entry(&self, index: usize) -> Option<Entry<'c>> {
        let Some(base) = self.base else {
            return self.changed_entries().nth(index);
        };
        if self.changes().is_empty() {
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
    pub fn set(&mut self, name: &[u8], value: &'c [u8], arena: &'c Bump) {
        self.forget_cursor();
        let values = Values::One([Some(value)]);
        match self.change_mut(name) {
            Some(change) => change.values = values,
            None => self.insert(name, values, arena),
        }
    }

    /// Puts `value` beside the values of a name.
    pub fn add(&mut self, name: &[u8], value: &'c [u8], arena: &'c Bump) {
        self.forget_cursor();
        if let Some(change) = self.change_mut(name) {
            change.values.push(value, arena);
            return;
        }
        let mut values = Values::Any(Vec::from_iter_in(self.base_values(name), arena));
        values.push(value, arena);
        self.insert(name, values, arena);
    }

    /// Removes a name.
    pub fn remove(&mut self, name: &[u8], arena: &'c Bump) {
        if self.get(name, 0).is_none() {
            return;
        }
        self.forget_cursor();
        let values = Values::Any(Vec::new_in(arena));
        match self.change_mut(name) {
            Some(change) => change.values = values,
            None => self.insert(name, values, arena),
        }
    }

    /// A change's name is copied once, however many plugins write it.
    #[inline]
    fn insert(&mut self, name: &[u8], values: Values<'c>, arena: &'c Bump) {
        let name = arena.alloc_slice_copy(name);
        // Room for as many as most chains change.
        let changes = self
            .changes
            .get_or_insert_with(|| Vec::with_capacity_in(4, arena));
        changes.push(Change { name, values });
    }

    /// What plugins have changed.
    #[inline(always)]
    pub fn changes(&self) -> &[Change<'c>] {
        self.changes.as_deref().unwrap_or_default()
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
            changes: self.changes().iter(),
            as_edits,
        }
    }

    /// Whether a plugin has changed a name.
    #[inline]
    pub fn change(&self, name: &[u8]) -> Option<&Change<'c>> {
        let changes = self.changes.as_ref()?;
        find(changes, name, self.any_case).and_then(|at| changes.get(at))
    }

    #[inline(always)]
    fn change_mut(&mut self, name: &[u8]) -> Option<&mut Change<'c>> {
        let changes = self.changes.as_mut()?;
        find(changes, name, self.any_case).and_then(|at| changes.get_mut(at))
    }

    fn base_values(&self, name: &[u8]) -> impl Iterator<Item = Option<&'c [u8]>> {
        self.base_entries()
            .filter(move |entry| same(entry.name, name, self.any_case))
            .map(|entry| entry.value)
    }
}

#[inline]
fn find(changes: &[Change<'_>], name: &[u8], any_case: bool) -> Option<usize> {
    for (at, change) in changes.iter().enumerate() {
        match same_at_once(change.name, name) {
            Some(false) => {}
            Some(true) => return Some(at),
            None => return find_long(changes, name, any_case),
        }
    }
    None
}

#[inline(never)]
fn find_long(changes: &[Change<'_>], name: &[u8], any_case: bool) -> Option<usize> {
    let mut changes = changes.iter();
    changes.position(|change| same(change.name, name, any_case))
}
