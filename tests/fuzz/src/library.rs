//! The file of a library, before anything of it runs.

use plugin_runner::plugins::{elf, metadata::Metadata};

/// Reads any bytes as a library's metadata section, and says what is wrong with it.
pub fn metadata(section: &[u8]) {
    match Metadata::read(section) {
        Ok(metadata) => match metadata.check() {
            Ok(about) => assert!(metadata.unwinds && metadata.text.plugins[0].name == about.name),
            Err(unfit) => said(&unfit.to_string()),
        },
        Err(unfit) => said(&unfit.to_string()),
    }
}

/// Reads any bytes as a library: the sections of one that passes lie inside of it.
pub fn file(bytes: &[u8]) {
    if let Err(error) = elf::check(bytes) {
        said(&error.to_string());
    }
    for name in [".plugin_runner", ".dynstr", ""] {
        let Some(section) = elf::section(bytes, name) else {
            continue;
        };
        let (outer, inner) = (bytes.as_ptr_range(), section.as_ptr_range());
        let within = outer.start <= inner.start && inner.end <= outer.end;
        assert!(within || section.is_empty());
        metadata(section);
    }
}

fn said(message: &str) {
    assert!(!message.is_empty());
}
