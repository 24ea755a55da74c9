//! What the runner reads from the file of a plugin before any code of it runs.

use super::{ABI_MAJOR, ABI_MINOR};

/// Name of the ELF section that holds a [`Metadata`].
pub const SECTION: &str = ".plugin_runner";
/// Name of the exported symbol: a [`LibHeader`](super::LibHeader).
pub const HEADER_SYMBOL: &str = "plugin_runner_header";
/// Starts every [`Metadata`].
pub const MAGIC: [u8; 8] = *b"GWPLUGIN";
/// Bytes before the text. All versions of the ABI agree on these fields and their places.
pub const FIXED: usize = 24;
/// The compiler that built this copy of the crate, as `rustc --version` says it.
pub const RUSTC: &str = env!("PLUGIN_API_RUSTC");
/// The target that this copy of the crate was built for.
pub const TARGET: &str = env!("PLUGIN_API_TARGET");
/// The version of this crate.
pub const API_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The content of the section. The text is a JSON object: api, rustc, target, and what the attribute knows of the
/// plugin (name, version, priority, phases, needs, blocking, min_runner).
#[repr(C)]
#[derive(Debug)]
pub struct Metadata<const N: usize> {
    magic: [u8; 8],
    abi_major: u16,
    abi_minor: u16,
    text_len: u32,
    unwinds: u8,
    reserved: [u8; 7],
    text: [u8; N],
}

const _: () = assert!(core::mem::offset_of!(Metadata<0>, abi_major) == 8);
const _: () = assert!(core::mem::offset_of!(Metadata<0>, abi_minor) == 10);
const _: () = assert!(core::mem::offset_of!(Metadata<0>, text_len) == 12);
const _: () = assert!(core::mem::offset_of!(Metadata<0>, unwinds) == 16);
const _: () = assert!(core::mem::offset_of!(Metadata<0>, text) == FIXED);

impl<const N: usize> Metadata<N> {
    /// Joins the parts of the text. `N` is [`text_len`] of them. `unwinds` is false for `panic = "abort"`.
    pub const fn new(unwinds: bool, parts: &[&str]) -> Self {
        let mut text = [0; N];
        let (mut at, mut part) = (0, 0);
        while part < parts.len() {
            let bytes = parts[part].as_bytes();
            let mut byte = 0;
            while byte < bytes.len() {
                text[at] = bytes[byte];
                at += 1;
                byte += 1;
            }
            part += 1;
        }
        Self {
            magic: MAGIC,
            abi_major: ABI_MAJOR,
            abi_minor: ABI_MINOR,
            text_len: N as u32,
            unwinds: unwinds as u8,
            reserved: [0; 7],
            text,
        }
    }
}

/// How long the parts are together.
pub const fn text_len(parts: &[&str]) -> usize {
    let (mut len, mut part) = (0, 0);
    while part < parts.len() {
        len += parts[part].len();
        part += 1;
    }
    len
}
