//! Records the ABI version of the workspace as a kept version: `tests/frozen/README.md` says what is in one. Touches
//! nothing else, and no version that is sealed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::cargo;
use crate::elsewhere::copy_folder;

/// The files of the runner that look at a library, below `runner/src/plugins`.
const LOADER: [&str; 5] = [
    "compat.rs",
    "elf.rs",
    "elf/dynamic.rs",
    "library.rs",
    "metadata.rs",
];
/// Has the sums of all files of a version.
const SEAL: &str = "SEALED";
/// The library is built for size, and without this machine's paths in it.
const PROFILE: &str = r#"[profile.frozen]
inherits = "release"
opt-level = "z"
lto = true
codegen-units = 1
strip = true
"#;

/// Runs the task.
///
/// # Errors
/// The version is sealed, or the work fails.
pub fn run(arguments: Vec<String>) -> Result<()> {
    let seal = arguments
        .first()
        .is_some_and(|argument| argument == "--seal");
    crate::no_more("freeze", &arguments[usize::from(seal)..])?;
    let version = version()?;
    let folder = folder().join(&version);
    if folder.join(SEAL).exists() {
        bail!("ABI {version} is sealed: what is published never changes. Raise ABI_MINOR first");
    }
    write_own_parts(&folder)?;
    write_copies(&folder)?;
    let library = build(&folder)?;
    println!("ABI {version} is recorded in tests/frozen/{version}");
    println!(
        "{}: {} bytes",
        library.display(),
        fs::metadata(&library)?.len()
    );
    if seal {
        fs::write(folder.join(SEAL), sums(&folder)?)?;
        println!("and sealed");
    }
    Ok(())
}

/// The folder of all kept versions.
pub fn folder() -> PathBuf {
    cargo::root().join("tests/frozen")
}

/// The kept versions, oldest first.
///
/// # Errors
/// The folder cannot be read.
pub fn versions() -> Result<Vec<String>> {
    let mut versions = Vec::new();
    for entry in fs::read_dir(folder())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            versions.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    versions.sort_by_key(|version| {
        let parts = version.split('.').map(|part| part.parse::<u32>());
        parts.map(Result::unwrap_or_default).collect::<Vec<_>>()
    });
    Ok(versions)
}

/// Where the recorded library of a version is, for the target that this was built for.
///
/// # Errors
/// rustc does not say its target.
pub fn library(version: &str) -> Result<PathBuf> {
    Ok(folder()
        .join(version)
        .join(format!("frozen-{}.so", cargo::host()?)))
}

/// What has changed in a sealed version since; `None` when it is not sealed, or nothing has.
///
/// # Errors
/// Its files cannot be read.
pub fn broken_seal(version: &str) -> Result<Option<String>> {
    let folder = folder().join(version);
    let Ok(sealed) = fs::read_to_string(folder.join(SEAL)) else {
        return Ok(None);
    };
    let now = sums(&folder)?;
    let changed = now.lines().filter(|line| !sealed.contains(line));
    let gone = sealed.lines().filter(|line| !now.contains(line));
    let lines: Vec<_> = changed.chain(gone).collect();
    Ok((!lines.is_empty()).then(|| lines.join("\n")))
}

/// ABI_MAJOR.ABI_MINOR of plugin-api.
fn version() -> Result<String> {
    let text = fs::read_to_string(cargo::root().join("plugin-api/src/abi.rs"))?;
    let number = |name: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("pub const {name}: u16")));
        let value = line.and_then(|line| line.split('=').nth(1));
        let value = value.map(|value| value.trim_matches([' ', ';']).to_owned());
        value.with_context(|| format!("plugin-api/src/abi.rs has no {name}"))
    };
    Ok(format!("{}.{}", number("ABI_MAJOR")?, number("ABI_MINOR")?))
}

/// The plugin and the `main` of the runner: written by hand, and carried on from version to version.
fn write_own_parts(folder: &Path) -> Result<()> {
    if folder.exists() {
        return Ok(());
    }
    let newest = versions()?
        .pop()
        .context("there is no version to begin with")?;
    for part in ["plugin", "runner"] {
        copy_folder(&self::folder().join(&newest).join(part), &folder.join(part))?;
    }
    Ok(())
}

fn write_copies(folder: &Path) -> Result<()> {
    let root = cargo::root();
    let api = folder.join("plugin-api");
    if api.exists() {
        fs::remove_dir_all(&api)?;
    }
    for part in ["src", "macros"] {
        copy_folder(&root.join("plugin-api").join(part), &api.join(part))?;
    }
    fs::copy(root.join("plugin-api/build.rs"), api.join("build.rs"))?;
    // Without the tests: they stay with the crate.
    let manifest = fs::read_to_string(root.join("plugin-api/Cargo.toml"))?;
    let manifest = manifest
        .split("[dev-dependencies]")
        .next()
        .unwrap_or_default();
    fs::write(api.join("Cargo.toml"), format!("{}\n", manifest.trim_end()))?;
    let plugins = folder.join("runner/src/plugins");
    fs::create_dir_all(plugins.join("elf"))?;
    for file in LOADER {
        fs::copy(
            root.join("runner/src/plugins").join(file),
            plugins.join(file),
        )?;
    }
    fs::write(folder.join("Cargo.toml"), manifest_of_the_whole()?)?;
    let lock = folder.join("Cargo.lock");
    fs::copy(root.join("Cargo.lock"), &lock)?;
    // Drops what the few packages here do not need.
    let mut metadata = cargo::cargo();
    metadata
        .args(["metadata", "--format-version", "1"])
        .current_dir(folder);
    cargo::run(metadata.stdout(Stdio::null()))
}

/// Versions and lints as the workspace has them today.
fn manifest_of_the_whole() -> Result<String> {
    let workspace = fs::read_to_string(cargo::root().join("Cargo.toml"))?;
    let (_, shared) = workspace
        .split_once("[workspace.package]")
        .context("the workspace's manifest has no [workspace.package]")?;
    let shared = shared.split("[profile.").next().unwrap_or_default();
    let shared: Vec<_> = shared
        .lines()
        .filter(|line| !line.starts_with("plugin-runner "))
        .collect();
    Ok(format!(
        "# Written by `cargo xtask freeze`.\n[workspace]\nresolver = \"3\"\nmembers = [\"plugin-api\", \
         \"plugin-api/macros\", \"plugin\", \"runner\"]\n\n[workspace.package]{}\n\n{PROFILE}",
        shared.join("\n").trim_end()
    ))
}

fn build(folder: &Path) -> Result<PathBuf> {
    let mut command = cargo::cargo();
    command.args([
        "build",
        "--locked",
        "--package",
        "frozen",
        "--profile",
        "frozen",
    ]);
    command
        .arg("--target-dir")
        .arg(cargo::target_folder()?.join("freeze"));
    command.env("RUSTFLAGS", without_own_paths(folder));
    let files = cargo::build(command.current_dir(folder))?;
    let built = files
        .into_iter()
        .find(|file| file.ends_with("libfrozen.so"));
    let built = built.context("the build made no libfrozen.so")?;
    let library = folder.join(format!("frozen-{}.so", cargo::host()?));
    fs::copy(built, &library)?;
    Ok(library)
}

fn without_own_paths(folder: &Path) -> String {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let maps = [(Some(folder.to_path_buf()), "frozen"), (home, "cargo")];
    let maps = maps.into_iter().filter_map(|(from, to)| Some((from?, to)));
    let maps = maps.map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()));
    maps.collect::<Vec<_>>().join(" ")
}

/// A line for each file, in order, as `sha256sum` prints it.
fn sums(folder: &Path) -> Result<String> {
    let mut files = Vec::new();
    list(folder, Path::new(""), &mut files)?;
    files.retain(|file| file != Path::new(SEAL));
    files.sort();
    let output = Command::new("sha256sum")
        .arg("--")
        .args(files)
        .current_dir(folder)
        .output();
    let output = output.context("starting sha256sum")?;
    if !output.status.success() {
        bail!(
            "sha256sum failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn list(folder: &Path, below: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => list(folder, &path, files)?,
            false => files.push(path),
        }
    }
    Ok(())
}
