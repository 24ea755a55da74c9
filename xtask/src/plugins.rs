//! Builds the example plugins and lays their libraries into a folder, the way a running gateway wants it: written
//! under another name, then renamed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::cargo;

/// What to build, and where it goes.
#[derive(Default)]
pub struct Options {
    /// The folder for the `.so` files; made if it is not there.
    pub out: PathBuf,
    /// With optimisations.
    pub release: bool,
    /// Also the plugins that exist for tests only.
    pub with_test_plugins: bool,
}

/// Runs the task.
///
/// # Errors
/// An argument is unknown, or the work fails.
pub fn run(arguments: Vec<String>) -> Result<()> {
    for library in build(&parse(arguments)?)? {
        println!("{}", library.display());
    }
    Ok(())
}

fn parse(arguments: Vec<String>) -> Result<Options> {
    let mut options = Options::default();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument
            .split_once('=')
            .map_or((argument.as_str(), None), |(a, b)| (a, Some(b)))
        {
            ("--out", Some(folder)) => options.out = folder.into(),
            ("--out", None) => options.out = arguments.next().unwrap_or_default().into(),
            ("--release", None) => options.release = true,
            ("--with-test-plugins", None) => options.with_test_plugins = true,
            _ => crate::no_more("plugins", &[argument])?,
        }
    }
    if options.out.as_os_str().is_empty() {
        bail!("`cargo xtask plugins` needs `--out DIR`: the folder for the .so files");
    }
    Ok(options)
}

/// Builds the plugins and returns the libraries laid down.
///
/// # Errors
/// A plugin does not build, or the folder cannot be written.
pub fn build(options: &Options) -> Result<Vec<PathBuf>> {
    let packages = cargo::plugin_packages()?;
    let wanted = packages
        .iter()
        .filter(|package| options.with_test_plugins || !package.for_tests);
    // One call for all plugins, and none of the runner: together with it cargo would turn on more features of what
    // they share, and the plugins would come out different from those that an author builds.
    let mut command = cargo::cargo();
    command.arg("build");
    for package in wanted {
        command.args(["--package", &package.name]);
    }
    if options.release {
        command.arg("--release");
    }
    let files = cargo::build(&mut command)?;
    fs::create_dir_all(&options.out)
        .with_context(|| format!("creating {}", options.out.display()))?;
    let libraries = files.iter().filter(|file| is_plugin(file, &packages));
    libraries
        .map(|library| lay(library, &options.out))
        .collect()
}

fn is_plugin(file: &Path, packages: &[cargo::Package]) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    packages
        .iter()
        .any(|package| name == format!("lib{}.so", package.name.replace('-', "_")))
}

fn lay(library: &Path, folder: &Path) -> Result<PathBuf> {
    let name = library
        .file_name()
        .context("the library has no file name")?;
    lay_as(library, folder, &name.to_string_lossy())
}

/// Lays a library into a folder under a name: written under one that the runner ignores, then renamed.
///
/// # Errors
/// The library cannot be read or the folder not be written.
pub fn lay_as(library: &Path, folder: &Path, name: &str) -> Result<PathBuf> {
    let target = folder.join(name);
    let unfinished = folder.join(format!(".{name}.{}", std::process::id()));
    let laid = fs::copy(library, &unfinished).and_then(|_| fs::rename(&unfinished, &target));
    laid.with_context(|| format!("laying {} into {}", library.display(), folder.display()))?;
    Ok(target)
}
