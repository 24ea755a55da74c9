//! plugins

pub mod elf;
