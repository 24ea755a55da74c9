//! The runner's own files, as they were when this version was recorded.

pub mod compat;
pub mod elf;
pub mod library;
pub mod metadata;
