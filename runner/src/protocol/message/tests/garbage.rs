//! Bytes that no gateway sends: an error that names the place, or values inside of the payload, never a panic.

use super::*;
use crate::protocol::flat::Flaw;
use crate::protocol::message::{Malformed, Rewrite, response, rewrite};

/// A payload that reads as a request call and as a response call: the number of fields and their kinds overlap.
fn request_call(path: &[u8], headers: &[Pair<Vec<u8>>]) -> Vec<u8> {
    let mut out = Vec::new();
    let none = std::iter::empty();
    let whole = Rewrite {
        path: Some(path),
        headers: none.clone(),
        args: entries(headers),
        resp_headers: none,
        body: Some(b"body"),
    };
    rewrite(&mut out, 0, &whole).unwrap();
    response(&mut out, 1, None, entries(headers), None).unwrap();
    out.split_off(4)
}

fn with(payload: &[u8], at: usize, word: u32) -> Vec<u8> {
    let mut changed = payload.to_vec();
    changed[at..at + 4].copy_from_slice(&word.to_le_bytes());
    changed
}

/// A ResponseCall with one header: root table's fields start at 20, the vector at 36, its entry at 52.
fn response_call() -> Vec<u8> {
    let mut out = Vec::new();
    let headers = [(b"name".to_vec(), Some(b"value".to_vec()))];
    response(&mut out, 7, Some(200), entries(&headers), None).unwrap();
    out.split_off(4)
}

#[test]
fn a_message_that_cannot_be_read_names_the_part_that_is_wrong() {
    let good = response_call();
    assert_eq!(read(ResponseCall::parse(&good).unwrap().headers).len(), 1);
    let field = |flaw| Malformed::Field {
        field: "headers",
        flaw,
    };
    let entry = |flaw| Malformed::Entry {
        field: "headers",
        index: 0,
        flaw,
    };
    for (payload, wrong) in [
        (vec![], Malformed::Empty),
        (vec![9, 0, 0], Malformed::Root(Flaw::Outside)),
        (with(&good, 0, 1 << 31), Malformed::Root(Flaw::Outside)),
        (with(&good, 16, u32::MAX), Malformed::Root(Flaw::Vtable)),
        (with(&good, 28, u32::MAX), field(Flaw::Outside)),
        (with(&good, 36, 1000), field(Flaw::Length)),
        (with(&good, 36, u32::MAX), field(Flaw::Length)),
        (with(&good, 40, 1 << 20), entry(Flaw::Outside)),
        (with(&good, 52, 1 << 20), entry(Flaw::Vtable)),
        (with(&good, 52, 53), entry(Flaw::Vtable)),
        (with(&good, 56, 1 << 20), entry(Flaw::Outside)),
        (with(&good, 64, 1 << 20), entry(Flaw::Length)),
    ] {
        assert_eq!(
            ResponseCall::parse(&payload).unwrap_err(),
            wrong,
            "{payload:?}"
        );
    }
}

#[test]
fn the_message_of_an_error_is_a_sentence_about_the_frame() {
    let long = with(&response_call(), 64, 1 << 20);
    let error = ResponseCall::parse(&long).unwrap_err();
    let text = "entry 0 of `headers` is longer than the rest of the frame";
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_megabyte_of_elements_that_share_one_entry_is_read_without_a_copy() {
    let (elements, mut payload) = (1 << 18, response_call());
    // A long vector takes the place of the short one; the entry moves behind it.
    let entry = payload.split_off(44);
    let vector = payload.len();
    let more = u32::try_from(elements * 4).unwrap();
    payload = with(&payload, 28, u32::try_from(vector - 28).unwrap());
    payload.extend(u32::try_from(elements).unwrap().to_le_bytes());
    for element in 0..elements {
        let left = more - u32::try_from(element * 4).unwrap();
        payload.extend((left + 8).to_le_bytes());
    }
    payload.extend(entry);
    let call = ResponseCall::parse(&payload).unwrap();
    assert_eq!(call.headers.len(), elements);
    assert!(
        call.headers
            .iter()
            .all(|entry| entry.value == Some(b"value"))
    );
}

proptest! {
    #[test]
    fn any_bytes(payload in vec(any::<u8>(), 0..300)) {
        read_all(&payload);
    }

    /// Small numbers make offsets that hit something.
    #[test]
    fn small_words(words in vec(0..64_u16, 0..120)) {
        let payload: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        read_all(&payload);
    }

    #[test]
    fn changed_messages(
        path in bytes(),
        headers in pairs(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut payload = request_call(&path, &headers);
        read_all(&payload);
        for (at, byte) in changes {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        read_all(&payload);
        read_all(&payload[..cut.index(payload.len())]);
    }
}
