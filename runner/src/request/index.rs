//! The entries of one list of a frame, found as they are asked for: a plugin that reads three headers does not pay for
//! the rest. Each is checked before it is handed out; one that cannot be read ends the list, and the call fails.

use std::cell::Cell;

use bumpalo::Bump;

use crate::protocol::flat::{Flaw, Layout};
use crate::protocol::message::{Entries, Entry, Malformed, Place, Search, key};

/// A list of a frame, and where its entries lie as far as anybody has looked.
#[derive(Debug)]
pub struct Index<'c> {
    entries: Entries<'c>,
    /// The list's name in the schema.
    field: &'static str,
    arena: &'c Bump,
    /// One for each entry; none before anybody has looked.
    places: Cell<&'c [Cell<Place>]>,
    /// Entries that were found; those behind them were not looked at.
    known: Cell<usize>,
    layout: Cell<Layout>,
    flaw: Cell<Option<(usize, Flaw)>>,
}

impl<'c> Index<'c> {
    /// A list of which nothing was read; `field` is its name in the schema.
    #[inline]
    pub fn new(entries: Entries<'c>, field: &'static str, arena: &'c Bump) -> Self {
        Self {
            entries,
            field,
            arena,
            places: Cell::new(&[]),
            known: Cell::new(0),
            layout: Cell::new(Layout::UNKNOWN),
            flaw: Cell::new(None),
        }
    }

    /// Checks every entry.
    ///
    /// # Errors
    /// The first one that cannot be read.
    pub fn check(&self) -> Result<(), Malformed> {
        (0..self.entries.len())
            .map_while(|at| self.entry(at))
            .for_each(drop);
        self.flaw().map_or(Ok(()), Err)
    }

    /// What could not be read so far: then the call must fail.
    #[inline]
    pub fn flaw(&self) -> Option<Malformed> {
        let (index, flaw) = self.flaw.get()?;
        let field = self.field;
        Some(Malformed::Entry { field, index, flaw })
    }

    /// The index of the next entry with a name, from index `from` on. `same` compares two names.
    #[inline(always)]
    pub fn find(
        &self,
        name: &[u8],
        from: usize,
        same: impl Fn(&[u8], &[u8]) -> bool,
    ) -> Option<usize> {
        let key = key(name);
        let mut from = from;
        loop {
            let (at, place) = self.next(key, from)?;
            if same(self.entries.name(place), name) {
                return Some(at);
            }
            from = at + 1;
        }
    }

    /// The next entry whose name may be that of `key`.
    #[inline(always)]
    fn next(&self, key: u32, from: usize) -> Option<(usize, Place)> {
        let known = self.places.get().get(from..self.known.get());
        for (at, place) in (from..).zip(known.unwrap_or_default()) {
            let place = place.get();
            if place.may_be(key) {
                return Some((at, place));
            }
        }
        loop {
            let at = self.go_on(Some(key))?;
            if at >= from {
                return Some((at, self.places.get().get(at)?.get()));
            }
        }
    }

    /// The value at an index that was found.
    #[inline(always)]
    pub fn value(&self, at: usize) -> Option<&'c [u8]> {
        let value = self.entries.value(self.place(at)?);
        value.unwrap_or_else(|flaw| {
            self.note(at, flaw);
            None
        })
    }

    /// The entry at an index.
    #[inline]
    pub fn entry(&self, at: usize) -> Option<Entry<'c>> {
        let name = self.entries.name(self.place(at)?);
        let value = self.value(at);
        Some(Entry { name, value })
    }

    /// Where an entry lies. All before it are found, too.
    #[inline]
    fn place(&self, at: usize) -> Option<Place> {
        while at >= self.known.get() {
            self.go_on(None)?;
        }
        Some(self.places.get().get(at)?.get())
    }

    /// Finds further entries, up to the first one that may have the name of `key`, or just one: its index.
    #[inline(never)]
    fn go_on(&self, key: Option<u32>) -> Option<usize> {
        if self.flaw.get().is_some() {
            return None;
        }
        if self.places.get().is_empty() {
            let places = self
                .arena
                .alloc_slice_fill_copy(self.entries.len(), Place::default());
            self.places.set(Cell::from_mut(places).as_slice_of_cells());
        }
        let mut layout = self.layout.get();
        let (known, places) = (self.known.get(), self.places.get());
        let search = self.entries.find(known, places, &mut layout, key);
        self.layout.set(layout);
        match search {
            Search::Found(at) => {
                self.known.set(at + 1);
                Some(at)
            }
            Search::Ended(at) => {
                self.known.set(at);
                None
            }
            Search::Broken(at, flaw) => {
                self.known.set(at);
                self.note(at, flaw);
                None
            }
        }
    }

    #[cold]
    fn note(&self, at: usize, flaw: Flaw) {
        self.flaw.set(self.flaw.get().or(Some((at, flaw))));
    }
}

#[cfg(test)]
mod tests {
    use flatbuffers::FlatBufferBuilder;

    use super::*;
    use crate::protocol::generated::a6::{TextEntry, TextEntryArgs, httpreq_call};
    use crate::protocol::message::RequestCall;

    /// A call with these headers. The text `broken` says that it is longer than the frame.
    fn call(headers: &[(&str, &str)], broken: &str) -> Vec<u8> {
        let mut builder = FlatBufferBuilder::new();
        let mut entries = Vec::new();
        for (name, value) in headers {
            let name = Some(builder.create_string(name));
            let value = Some(builder.create_string(value));
            entries.push(TextEntry::create(
                &mut builder,
                &TextEntryArgs { name, value },
            ));
        }
        let headers = Some(builder.create_vector(&entries));
        let fields = httpreq_call::ReqArgs {
            headers,
            ..Default::default()
        };
        let root = httpreq_call::Req::create(&mut builder, &fields);
        builder.finish(root, None);
        let mut payload = builder.finished_data().to_vec();
        let mut texts = payload.windows(broken.len());
        let text = texts.position(|text| text == broken.as_bytes()).unwrap();
        payload[text - 1] = 1;
        payload
    }

    fn same(one: &[u8], other: &[u8]) -> bool {
        one == other
    }

    #[test]
    fn an_entry_that_nobody_needs_is_not_read() {
        let payload = call(&[("aa", "1"), ("bb", "2"), ("broken", "3")], "broken");
        let (call, arena) = (RequestCall::open(&payload).unwrap(), Bump::new());
        let index = Index::new(call.headers, "headers", &arena);
        assert_eq!(index.find(b"bb", 0, same), Some(1));
        assert_eq!(index.value(1), Some(&b"2"[..]));
        assert_eq!(index.flaw(), None);
    }

    #[test]
    fn an_entry_that_cannot_be_read_ends_the_list_and_is_remembered() {
        let headers = [("aa", "1"), ("bb", "broken"), ("cc", "3"), ("dd", "4")];
        for (broken, in_front) in [("bb", 1), ("broken", 2)] {
            let payload = call(&headers, broken);
            let (call, arena) = (RequestCall::open(&payload).unwrap(), Bump::new());
            let index = Index::new(call.headers, "headers", &arena);
            assert_eq!(index.find(b"bb", 0, same).is_some(), in_front == 2);
            let found = index.find(b"bb", 0, same).and_then(|at| index.value(at));
            assert_eq!(found, None, "{broken}");
            let flaw = index.flaw().unwrap();
            assert_eq!(
                flaw.to_string(),
                "entry 1 of `headers` is longer than the rest of the frame"
            );
            assert_eq!(index.find(b"dd", 0, same), None, "{broken}");
            assert!(index.entry(2).is_none() && index.entry(3).is_none());
            assert_eq!(index.check(), Err(flaw));
        }
    }

    #[test]
    fn entries_are_found_in_any_order_of_asking() {
        let headers = [("aa", "1"), ("bb", "2"), ("aa", "3"), ("broken", "")];
        let payload = call(&headers, "broken");
        let (call, arena) = (RequestCall::open(&payload).unwrap(), Bump::new());
        let index = Index::new(call.headers, "headers", &arena);
        assert_eq!(index.entry(2).unwrap().value, Some(&b"3"[..]));
        assert_eq!(index.find(b"aa", 0, same), Some(0));
        assert_eq!(index.find(b"aa", 1, same), Some(2));
        assert_eq!(index.find(b"aa", 3, same), None);
        assert_eq!(index.entry(1).unwrap().name, b"bb");
    }
}
