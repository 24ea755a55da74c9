//! The contract, written down: what crosses the border, field by field, and every number with a meaning.
//!
//! A library that somebody built a year ago relies on each line of `abi-1.txt`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use abi_stable::StableAbi;
use abi_stable::type_layout::{TLData, TLField, TypeLayout};
use plugin_api::abi::{
    Bytes, CallPointer, Found, FoundEntry, Handle, HostRef, LogRecord, ModuleRef, Outcome,
};

const FILE: &str = "tests/abi-1.txt";

/// All that the functions of the contract take and give.
const ROOTS: [&TypeLayout; 9] = [
    ModuleRef::LAYOUT,
    HostRef::LAYOUT,
    Bytes::LAYOUT,
    CallPointer::LAYOUT,
    Found::LAYOUT,
    FoundEntry::LAYOUT,
    Handle::LAYOUT,
    LogRecord::LAYOUT,
    Outcome::LAYOUT,
];

#[test]
#[cfg(target_pointer_width = "64")]
#[cfg_attr(feature = "next-minor", ignore = "a made-up version")]
fn nothing_that_was_published_changes_its_place_or_meaning() {
    let mut found = String::new();
    let mut seen = BTreeSet::new();
    for layout in ROOTS {
        describe(&mut found, layout, &mut seen);
    }
    numbers(&mut found);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    if std::env::var_os("UPDATE_ABI_SNAPSHOT").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let mut lines = found.lines();
    // `any` goes on where it has stopped: published lines have to stand in their order.
    if let Some(gone) = expected.lines().find(|line| !lines.any(|now| now == *line)) {
        panic!(
            "the ABI has lost a line of plugin-api/{FILE}:\n  {gone}\nLibraries rely on what was published: put it \
             back. New fields go behind the last of `Module` or `Host`, new facts get a new number."
        );
    }
    assert!(
        expected == found,
        "the ABI has lines that plugin-api/{FILE} does not have. If they are meant to be published, raise ABI_MINOR \
         (plugin-api/README.md, \"The ABI\") and write them down:\n  UPDATE_ABI_SNAPSHOT=1 cargo test -p \
         gateway-plugin-api --test it layout"
    );
}

/// This crate's types, each before those that it names for the first time.
fn describe(out: &mut String, layout: &'static TypeLayout, seen: &mut BTreeSet<String>) {
    if !seen.insert(layout.full_type().to_string()) {
        return;
    }
    let phantom = layout.phantom_fields();
    let mut named: Vec<_> = phantom.iter().map(|field| field.layout()).collect();
    let fields = layout.get_fields().map(|fields| fields.to_vec());
    let ours = layout.package().as_str() == "gateway-plugin-api";
    if ours {
        writeln!(out, "{}: {}", layout.full_type(), extent(layout)).unwrap();
    }
    let mut offset = 0;
    for field in fields.unwrap_or_default() {
        let (size, alignment) = (field.layout().size(), field.layout().alignment());
        offset = usize::next_multiple_of(offset, alignment);
        if ours {
            writeln!(out, "  {offset:>3} {}: {}", field.name(), kind(&field)).unwrap();
        }
        offset += size;
        named.push(field.layout());
    }
    for layout in named {
        describe(out, layout, seen);
    }
}

/// What may be appended to has no size.
fn extent(layout: &'static TypeLayout) -> String {
    match layout.data() {
        TLData::PrefixType(prefix) => format!("the first {} always", prefix.first_suffix_field),
        _ => format!("{} bytes, aligned to {}", layout.size(), layout.alignment()),
    }
}

fn kind(field: &TLField) -> String {
    let function = field.function_range().iter().next();
    let Some(function) = function.map(|function| function.to_string()) else {
        return field.full_type().to_string().trim().to_owned();
    };
    // What is printed begins with the names of all parameters, and ends with their lifetimes.
    let function = function.replace("PrefixRef<'a, Host>", "HostRef");
    let (parameters, returned) = function.lines().next().unwrap().rsplit_once("->").unwrap();
    let types: Vec<_> = parameters
        .trim_end_matches(')')
        .split(", ")
        .filter_map(|parameter| parameter.split_once(": "))
        .map(|(_, kind)| kind.trim().replace("'a  ", ""))
        .collect();
    format!("fn({}) -> {returned}", types.join(", "))
}

/// The constants of `abi/numbers.rs`, with their modules.
fn numbers(out: &mut String) {
    let mut module = "";
    for line in include_str!("../../src/abi/numbers.rs").lines() {
        if let Some(name) = line.strip_prefix("pub mod ") {
            module = name.trim_end_matches(" {");
        }
        if line == "}" {
            module = "";
        }
        if let Some(constant) = line.trim_start().strip_prefix("pub const ") {
            let constant = constant.trim_end_matches(';').replace(": u32", "");
            let path = if module.is_empty() { "numbers" } else { module };
            writeln!(out, "{path}::{constant}").unwrap();
        }
    }
}
