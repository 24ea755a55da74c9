//! A copy of an example plugin that is built like a plugin of somebody else: outside of the workspace, perhaps with
//! changes in its source or with another compiler. The original is never touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cargo;

/// A copy that is ready to build.
pub struct Copy {
    folder: PathBuf,
    package: String,
    library: String,
}

impl Copy {
    /// Copies a plugin into a folder of its own. Its library is called `name`; the plugin keeps the name it has.
    ///
    /// # Errors
    /// There is no such plugin, or the folder cannot be written.
    pub fn new(package: &str, name: &str) -> Result<Self> {
        let source = cargo::root().join("example-plugins").join(package);
        let folder = cargo::target_folder()?.join("elsewhere").join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        copy_folder(&source, &folder).with_context(|| format!("copying {}", source.display()))?;
        fs::copy(cargo::root().join("Cargo.lock"), folder.join("Cargo.lock"))?;
        let copy = Self {
            folder,
            package: package.to_owned(),
            library: name.replace('-', "_"),
        };
        copy.write_manifest()?;
        Ok(copy)
    }

    /// Replaces a text in the copy's `src/lib.rs`.
    ///
    /// # Errors
    /// The text is not there.
    pub fn replace(&self, old: &str, new: &str) -> Result<()> {
        let file = self.folder.join("src/lib.rs");
        let text = fs::read_to_string(&file)?;
        if !text.contains(old) {
            bail!("{} has no `{old}` to replace", file.display());
        }
        Ok(fs::write(&file, text.replace(old, new))?)
    }

    /// The folder of the copy.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Builds the copy with the cargo that runs us, and returns its library. What it shares with the workspace's
    /// plugins is not built again.
    ///
    /// # Errors
    /// The build fails.
    pub fn build(&self, arguments: &[&str]) -> Result<PathBuf> {
        let mut command = cargo::cargo();
        command.arg("build").args(arguments);
        command.arg("--target-dir").arg(cargo::target_folder()?);
        self.build_with(&mut command)
    }

    /// Builds the copy with more arguments for the compiler of the plugin itself; what it depends on stays as it is.
    ///
    /// # Errors
    /// The build fails.
    pub fn build_for(&self, compiler: &[&str]) -> Result<PathBuf> {
        let mut command = cargo::cargo();
        command
            .args(["rustc", cargo::JSON, "--target-dir"])
            .arg(cargo::target_folder()?);
        command.arg("--").args(compiler);
        self.library_of(cargo::artifacts(command.current_dir(&self.folder))?)
    }

    /// Builds the copy with the given command, which starts with a cargo and its subcommand.
    ///
    /// # Errors
    /// The build fails.
    pub fn build_with(&self, command: &mut Command) -> Result<PathBuf> {
        self.library_of(cargo::build(command.current_dir(&self.folder))?)
    }

    fn library_of(&self, files: Vec<PathBuf>) -> Result<PathBuf> {
        let name = format!("lib{}.so", self.library);
        let library = files.into_iter().find(|file| file.ends_with(&name));
        library.with_context(|| format!("the build of `{}` made no {name}", self.package))
    }

    /// The plugin's manifest names versions, lints and profiles of the workspace: the copy is the root of a
    /// workspace of its own that has the same ones.
    fn write_manifest(&self) -> Result<()> {
        let root = cargo::root();
        let workspace = fs::read_to_string(root.join("Cargo.toml"))?;
        let (_, shared) = workspace
            .split_once("[workspace.package]")
            .context("the workspace's manifest has no [workspace.package]")?;
        // What the workspace says of single packages is about packages that the copy does not have.
        let (shared, _) = shared
            .split_once("[profile.dev.package")
            .unwrap_or((shared, ""));
        // What follows is about packages that a plugin does not have.
        let shared = shared
            .split("[profile.dev.package")
            .next()
            .unwrap_or(shared);
        let shared = shared.replace("path = \"", &format!("path = \"{}/", root.display()));
        let file = self.folder.join("Cargo.toml");
        let library = format!("[lib]\nname = \"{}\"", self.library);
        let own = fs::read_to_string(&file)?.replace("[lib]", &library);
        let text = format!("{own}\n[workspace]\nresolver = \"3\"\n\n[workspace.package]{shared}");
        Ok(fs::write(&file, text)?)
    }
}

pub(crate) fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
