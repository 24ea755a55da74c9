//! The messages against the gateway's own frames, the generated code, and bytes that nobody would send.

mod captures;
mod garbage;
mod received;
mod written;

use flatbuffers::{ForwardsUOffset, Vector};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{Entries, Entry, ExtraInfo, PrepareConf, RequestCall, ResponseCall};
use crate::protocol::generated::a6::TextEntry;

/// A name and a value.
type Pair<T> = (T, Option<T>);

/// Names and values as the generated code reads them.
type Generated<'f> = Option<Vector<'f, ForwardsUOffset<TextEntry<'f>>>>;

fn text() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..12).prop_map(String::from_iter)
}

fn texts() -> impl Strategy<Value = Vec<Pair<String>>> {
    vec((text(), proptest::option::of(text())), 0..6)
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

fn pairs() -> impl Strategy<Value = Vec<Pair<Vec<u8>>>> {
    vec((bytes(), proptest::option::of(bytes())), 0..6)
}

/// The entries of a list made up by a test.
fn entries<T: AsRef<[u8]>>(
    pairs: &[Pair<T>],
) -> impl ExactSizeIterator<Item = Entry<'_>> + Clone + use<'_, T> {
    pairs.iter().map(|(name, value)| Entry {
        name: name.as_ref(),
        value: value.as_ref().map(AsRef::as_ref),
    })
}

/// What our reader found, to be compared.
fn read<'f>(entries: Entries<'f>) -> Vec<Entry<'f>> {
    entries.iter().collect()
}

/// What the generated code found, to be compared.
fn oracle<'f>(entries: Generated<'f>) -> Vec<Entry<'f>> {
    let entries = entries.into_iter().flatten();
    entries
        .map(|entry| Entry {
            name: entry.name().unwrap_or_default().as_bytes(),
            value: entry.value().map(str::as_bytes),
        })
        .collect()
}

/// Reads the payload as every message there is, and every part of what could be read.
fn read_all(payload: &[u8]) -> usize {
    let request = RequestCall::parse(payload).map(|call| {
        inside(payload, call.src_ip) + inside(payload, call.path) + {
            all(payload, call.args) + all(payload, call.headers)
        }
    });
    let response = ResponseCall::parse(payload).map(|call| all(payload, call.headers));
    let prepare =
        PrepareConf::parse(payload).map(|conf| inside(payload, conf.key) + all(payload, conf.conf));
    let info = ExtraInfo::parse(payload)
        .map(|info| info.result.map_or(0, |result| inside(payload, result)));
    [request, response, prepare, info]
        .into_iter()
        .flatten()
        .sum()
}

fn all(payload: &[u8], entries: Entries<'_>) -> usize {
    assert_eq!(entries.iter().len(), entries.len());
    assert_eq!(entries.iter().count(), entries.len());
    assert_eq!(entries.is_empty(), entries.get(0).is_none());
    assert_eq!(entries.get(entries.len()), None);
    let one = |(index, entry): (usize, Entry<'_>)| {
        assert_eq!(entries.get(index), Some(entry));
        inside(payload, entry.name) + entry.value.map_or(0, |value| inside(payload, value))
    };
    entries.iter().enumerate().map(one).sum()
}

/// Asserts that a value is a slice of the payload.
fn inside(payload: &[u8], value: &[u8]) -> usize {
    let (outer, inner) = (payload.as_ptr_range(), value.as_ptr_range());
    let within = outer.start <= inner.start && inner.end <= outer.end;
    assert!(within || value.is_empty());
    value.len()
}
