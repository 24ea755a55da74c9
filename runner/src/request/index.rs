//! The entries of one list of a frame, found when somebody asks for one of them: nobody pays for lists that no plugin
//! reads. Each is checked before it is handed out; one that cannot be read ends the list, and fails the call as soon as
//! somebody needs it or what is behind it.

use std::cell::Cell;

use bumpalo::Bump;

use super::names::{same, same_at_once};
use crate::protocol::flat::{Flaw, Layout, Shape};
use crate::protocol::message::{Entries, Entry, Malformed, Place};

/// Entries that are found at once: all of most requests, and not all of a hostile one.
const AHEAD: usize = 32;

/// A list of a frame, and where its entries lie as far as anybody has looked.
#[derive(Debug)]
pub struct Index<'c> {
    entries: Entries<'c>,
    /// The list's name in the schema.
    field: &'static str,
    arena: &'c Bump,
    /// Of the first entries: as many as anybody has needed, and some ahead of them.
    places: Cell<&'c [Place<'c>]>,
    /// What is wrong with the entry behind those; of no account until somebody needs it.
    behind: Cell<Option<Flaw>>,
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
            behind: Cell::new(None),
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

    /// The index of the next entry with a name, from index `from` on.
    pub fn find(&self, from: usize, name: &[u8], any_case: bool) -> Option<usize> {
        loop {
            let behind = self.places.get().get(from..).unwrap_or_default();
            let mut places = behind.iter();
            if let Some(at) = places.position(|place| same(place.name, name, any_case)) {
                return Some(from + at);
            }
            self.go_on()?;
        }
    }

    /// The value of the first entry with a name.
    #[inline]
    pub fn first(&self, name: &[u8], any_case: bool) -> Option<Option<&'c [u8]>> {
        let mut from = 0;
        loop {
            let places = self.places.get();
            for place in places.get(from..).unwrap_or_default() {
                if same(place.name, name, any_case) {
                    return Some(self.value(place));
                }
            }
            from = places.len();
            self.go_on()?;
        }
    }

    /// As [`Index::first`], if the entry is known, its name short, and its value right. Never panics, calls nothing.
    #[inline(always)]
    pub fn quick(&self, name: &[u8]) -> Option<&'c [u8]> {
        for place in self.places.get() {
            match same_at_once(place.name, name) {
                Some(false) => {}
                Some(true) => return self.entries.value(place).unwrap_or_default(),
                None => return None,
            }
        }
        None
    }

    #[inline]
    fn value(&self, place: &'c Place<'c>) -> Option<&'c [u8]> {
        match self.entries.value(place) {
            Ok(value) => value,
            Err(flaw) => {
                let places = self.places.get();
                let at = places.iter().position(|each| std::ptr::eq(each, place));
                self.note(at.unwrap_or(places.len()), flaw);
                None
            }
        }
    }

    /// The entry at an index.
    pub fn entry(&self, at: usize) -> Option<Entry<'c>> {
        loop {
            if let Some(place) = self.places.get().get(at) {
                let (name, value) = (place.name, self.value(place));
                return Some(Entry { name, value });
            }
            self.go_on()?;
        }
    }

    /// No entry was found yet.
    #[inline(always)]
    pub fn is_unread(&self) -> bool {
        self.places.get().is_empty()
    }

    /// Finds further entries; `None`: there are none.
    #[inline(never)]
    pub fn go_on(&self) -> Option<()> {
        let known = self.places.get().len();
        if self.flaw.get().is_some() {
            return None;
        }
        if let Some(flaw) = self.behind.get() {
            self.note(known, flaw);
            return None;
        }
        // Those that are known are read again: few lists are that long, and it happens once.
        let most = match known {
            0 => AHEAD.min(self.entries.len()),
            _ => self.entries.len(),
        };
        if most == known {
            return None;
        }
        self.places.set(self.read(most));
        Some(())
    }

    /// Finds the first `most` entries, but none behind one that cannot be read.
    fn read(&self, most: usize) -> &'c [Place<'c>] {
        let places = match self.entries.shape() {
            // Two loops, so that neither asks at each entry which it is.
            Some(Shape::Straight { vtable }) => self.alike::<4, 8>(vtable, most),
            Some(Shape::Crossed { vtable }) => self.alike::<8, 4>(vtable, most),
            None => None,
        };
        places.unwrap_or_else(|| self.one_by_one(most))
    }

    #[inline(never)]
    fn alike<const NAME: usize, const VALUE: usize>(
        &self,
        vtable: usize,
        most: usize,
    ) -> Option<&'c [Place<'c>]> {
        let mut alike = self.entries.alike::<NAME, VALUE>(vtable);
        let place = |_| alike.find().ok_or(());
        let places = self.arena.alloc_slice_try_fill_with(most, place);
        places.ok().map(|places| &*places)
    }

    #[inline(never)]
    fn one_by_one(&self, most: usize) -> &'c [Place<'c>] {
        let mut layout = Layout::UNKNOWN;
        let place = |at| {
            let place = self.entries.place(at, &mut layout);
            place.map_err(|flaw| (at, flaw))
        };
        match self.arena.alloc_slice_try_fill_with(most, place) {
            Ok(places) => places,
            Err((at, flaw)) => {
                self.behind.set(Some(flaw));
                // What could be read once can be read again.
                self.one_by_one(at)
            }
        }
    }

    /// Ends the list at an entry that cannot be read.
    #[cold]
    fn note(&self, at: usize, flaw: Flaw) {
        self.flaw.set(self.flaw.get().or(Some((at, flaw))));
        let readable = self.places.get().get(..at);
        self.places.set(readable.unwrap_or(self.places.get()));
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

    fn find(index: &Index<'_>, name: &[u8], from: usize) -> Option<usize> {
        index.find(from, name, false)
    }

    fn value<'c>(index: &Index<'c>, at: usize) -> Option<&'c [u8]> {
        index.entry(at)?.value
    }

    #[test]
    fn an_entry_that_nobody_needs_is_not_read() {
        let payload = call(&[("aa", "1"), ("bb", "2"), ("broken", "3")], "broken");
        let (call, arena) = (RequestCall::open(&payload).unwrap(), Bump::new());
        let index = Index::new(call.headers, "headers", &arena);
        assert_eq!(find(&index, b"bb", 0), Some(1));
        assert_eq!(value(&index, 1), Some(&b"2"[..]));
        assert_eq!(index.flaw(), None);
    }

    #[test]
    fn an_entry_that_cannot_be_read_ends_the_list_and_is_remembered() {
        let headers = [("aa", "1"), ("bb", "broken"), ("cc", "3"), ("dd", "4")];
        for (broken, in_front) in [("bb", 1), ("broken", 2)] {
            let payload = call(&headers, broken);
            let (call, arena) = (RequestCall::open(&payload).unwrap(), Bump::new());
            let index = Index::new(call.headers, "headers", &arena);
            assert_eq!(find(&index, b"bb", 0).is_some(), in_front == 2);
            let found = find(&index, b"bb", 0).and_then(|at| value(&index, at));
            assert_eq!(found, None, "{broken}");
            let flaw = index.flaw().unwrap();
            assert_eq!(
                flaw.to_string(),
                "entry 1 of `headers` is longer than the rest of the frame"
            );
            assert_eq!(find(&index, b"dd", 0), None, "{broken}");
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
        assert_eq!(find(&index, b"aa", 0), Some(0));
        assert_eq!(find(&index, b"aa", 1), Some(2));
        assert_eq!(find(&index, b"aa", 3), None);
        assert_eq!(index.entry(1).unwrap().name, b"bb");
    }

    #[test]
    fn entries_behind_those_that_are_found_at_once_are_found_when_they_are_needed() {
        let names: Vec<String> = (0..100).map(|number| format!("name-{number}")).collect();
        let broken = ("broken", "1");
        let mut headers: Vec<_> = names.iter().map(|name| (&**name, "1")).collect();
        headers.insert(AHEAD + 5, broken);
        let payload = call(&headers, "broken");
        let (call, arena) = (RequestCall::open(&payload).unwrap(), Bump::new());
        let index = Index::new(call.headers, "headers", &arena);
        assert_eq!(find(&index, b"name-3", 0), Some(3));
        let last = format!("name-{}", AHEAD + 4);
        assert_eq!(find(&index, last.as_bytes(), 0), Some(AHEAD + 4));
        assert_eq!(index.flaw(), None);
        assert_eq!(find(&index, b"name-99", 0), None);
        let Some(Malformed::Entry { index: at, .. }) = index.flaw() else {
            panic!("{:?}", index.flaw());
        };
        assert_eq!(at, AHEAD + 5);
    }
}
