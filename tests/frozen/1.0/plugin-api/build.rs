//! Records the compiler and the target, for the metadata that every plugin carries.

use std::process::Command;

fn main() {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = Command::new(rustc)
        .arg("--version")
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default();
    let target = std::env::var("TARGET").unwrap_or_default();
    println!("cargo::rustc-env=PLUGIN_API_RUSTC={version}");
    println!("cargo::rustc-env=PLUGIN_API_TARGET={target}");
    println!("cargo::rerun-if-changed=build.rs");
}
