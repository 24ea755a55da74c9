//! What people write: configuration, routes, confs.

use std::io::Write as _;
use std::path::PathBuf;

use plugin_api::{Configuration as _, Plugin};
use plugin_runner::config::{Sources, load};

/// Loads any bytes as the runner's config.yaml: a configuration, or faults that say something.
///
/// # Panics
/// The loader panics, or no temporary file can be written.
pub fn config(bytes: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("a temporary file");
    let sources = Sources {
        config: Some(file.path().to_owned()),
        plugins: Some(PathBuf::from("/nowhere")),
        needs_plugins: false,
        exe: PathBuf::from("/opt/plugin-runner/bin/plugin-runner"),
        cwd: PathBuf::from("/"),
        system: PathBuf::from("/nowhere"),
        root: false,
        env: Box::new(|name| (name == "NAME").then(|| "value".into())),
    };
    if let Err(faults) = load(&sources) {
        assert!(!faults.to_string().is_empty());
    }
}

/// Reads any bytes as a bindings.yaml: bindings that name a plugin, or faults that say something.
///
/// # Panics
/// The reader panics, or no temporary file can be written.
pub fn bindings(bytes: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("a temporary file");
    match plugin_runner::config::bindings(file.path()) {
        Ok(bindings) => assert!(bindings.iter().all(|binding| !binding.plugin.is_empty())),
        Err(faults) => assert!(!faults.to_string().is_empty()),
    }
}

/// Reads any text as a routes file of the local gateway: routes, or faults.
pub fn routes(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Err(faults) = plugin_runner::dev::check_routes(text)
    {
        assert!(!faults.is_empty());
    }
}

/// Reads any bytes as a conf of a plugin, and checks it as the runner does before `configure`.
pub fn conf<P: Plugin>(bytes: &[u8]) {
    let read = P::Config::read(bytes).and_then(|config| P::validate(&config));
    if let Err(error) = read {
        assert!(!error.to_string().is_empty());
    }
}
