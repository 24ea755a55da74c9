//! Tokens across collisions, restarts and the bound.

use std::fs;

use super::*;
use crate::protocol::generated::a6::{TextEntry, TextEntryArgs, prepare_conf};

const DAY: Duration = Duration::from_secs(86_400);

fn payload(key: &str, conf: &[(&str, Option<&str>)]) -> Vec<u8> {
    let mut builder = flatbuffers::FlatBufferBuilder::new();
    let entries: Vec<_> = conf
        .iter()
        .map(|(name, value)| {
            let name = Some(builder.create_string(name));
            let value = value.map(|value| builder.create_string(value));
            TextEntry::create(&mut builder, &TextEntryArgs { name, value })
        })
        .collect();
    let conf = Some(builder.create_vector(&entries));
    let key = Some(builder.create_string(key));
    let message = prepare_conf::Req::create(&mut builder, &prepare_conf::ReqArgs { conf, key });
    builder.finish_minimal(message);
    builder.finished_data().to_vec()
}

fn numbered(n: u32) -> Vec<u8> {
    payload("route#1", &[("say", Some(&n.to_string()))])
}

fn in_memory(max: usize) -> Tokens {
    Tokens::open(max, DAY, None)
}

fn state(place: &tempfile::TempDir) -> StateDir {
    StateDir::open(&place.path().join("state")).unwrap()
}

fn on_disk(place: &tempfile::TempDir) -> Tokens {
    Tokens::open(1_000_000, DAY, Some(&state(place)))
}

#[test]
fn the_same_configuration_has_the_same_token_and_another_has_another() {
    let mut tokens = in_memory(100);
    let base = payload("route#1", &[("a", Some("1")), ("b", None)]);
    let token = tokens.assign(base.clone()).unwrap();
    assert_ne!(token, 0);
    assert_eq!(tokens.assign(base), Ok(token));
    let others = [
        payload("route#2", &[("a", Some("1")), ("b", None)]),
        payload("route#1", &[("a", Some("1")), ("b", Some(""))]),
        payload("route#1", &[("b", None), ("a", Some("1"))]),
        payload("route#1", &[("a", Some("1"))]),
        payload("route#1", &[("a", Some("1b"))]),
        payload("route#1", &[]),
        payload("route#1a", &[("", Some("1")), ("b", None)]),
    ];
    let mut all: Vec<_> = others.map(|other| tokens.assign(other).unwrap()).into();
    all.push(token);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 8);
    assert_eq!(tokens.live().count(), 8);
}

#[test]
fn configurations_that_collide_keep_tokens_of_their_own_also_after_a_restart() {
    let place = tempfile::tempdir().unwrap();
    let narrow = || {
        let mut tokens = on_disk(&place);
        tokens.mask = 0xff; // 8 bits: 40 configurations collide for certain
        tokens
    };
    let mut tokens = narrow();
    let first: Vec<_> = (0..40)
        .map(|n| tokens.assign(numbered(n)).unwrap())
        .collect();
    let mut distinct = first.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 40);
    assert!(!distinct.contains(&0));
    drop(tokens);
    let mut tokens = narrow();
    assert_eq!(tokens.live().count(), 0, "no configuration is on the disk");
    // In another order, so that collisions would be resolved in another way.
    let again: Vec<_> = (0..40)
        .rev()
        .map(|n| tokens.assign(numbered(n)).unwrap())
        .collect();
    assert_eq!(again.into_iter().rev().collect::<Vec<_>>(), first);
}

#[test]
fn at_the_bound_a_new_configuration_is_refused_and_known_ones_are_not() {
    let mut tokens = in_memory(2);
    let first = tokens.assign(numbered(1)).unwrap();
    tokens.assign(numbered(2)).unwrap();
    assert_eq!(tokens.assign(numbered(3)), Err(TokenError::Full(2)));
    assert_eq!(tokens.assign(numbered(1)), Ok(first));
    tokens.forget(first);
    assert!(tokens.assign(numbered(3)).is_ok());
    assert_eq!(tokens.live().count(), 2);
}

#[test]
fn a_payload_that_cannot_be_read_gets_no_token() {
    let error = in_memory(1).assign(vec![1, 2, 3]).unwrap_err();
    assert!(matches!(error, TokenError::Malformed(_)), "{error}");
}

#[test]
fn a_foreign_file_is_left_alone_and_memory_serves() {
    let place = tempfile::tempdir().unwrap();
    let file = state(&place).path().join(file::NAME);
    fs::write(&file, "somebody's notes\n").unwrap();
    let mut tokens = on_disk(&place);
    tokens.assign(numbered(1)).unwrap();
    assert_eq!(fs::read_to_string(file).unwrap(), "somebody's notes\n");
}

#[test]
fn a_line_cut_by_a_crash_costs_only_itself() {
    let place = tempfile::tempdir().unwrap();
    let file = state(&place).path().join(file::NAME);
    on_disk(&place).assign(numbered(1)).unwrap();
    let mut text = fs::read_to_string(&file).unwrap();
    text.push_str("12345678 abcd");
    fs::write(&file, &text).unwrap();
    let mut tokens = on_disk(&place);
    tokens.assign(numbered(2)).unwrap();
    drop(tokens);
    assert_eq!(on_disk(&place).known.len(), 2);
}

#[test]
fn two_runners_that_overlap_lose_no_line_of_each_other() {
    let place = tempfile::tempdir().unwrap();
    let mut old = on_disk(&place);
    old.assign(numbered(1)).unwrap();
    let mut new = on_disk(&place);
    new.assign(numbered(2)).unwrap();
    old.assign(numbered(3)).unwrap();
    drop(old);
    new.assign(numbered(4)).unwrap();
    drop(new);
    assert_eq!(on_disk(&place).known.len(), 4);
}

#[test]
fn the_file_does_not_grow_for_ever_and_expired_lines_go() {
    let place = tempfile::tempdir().unwrap();
    let state = state(&place);
    let size = || {
        fs::read_to_string(state.path().join(file::NAME))
            .unwrap()
            .lines()
            .count()
    };
    let (mut file, _) = TokenFile::open(&state, DAY, 0).unwrap();
    for time in 0..5000 {
        file.append(7, &[7; 32], time).unwrap();
    }
    assert!(size() < 1500, "{} lines", size());
    drop(file);
    let (_, lines) = TokenFile::open(&state, DAY, 5000).unwrap();
    assert_eq!((lines.len(), size()), (1, 2));
    let (_, lines) = TokenFile::open(&state, DAY, 100_000).unwrap();
    assert_eq!((lines.len(), size()), (0, 1));
}
