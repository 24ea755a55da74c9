//! Opens plugin code: the only `dlopen`.
//!
//! A library is never closed: thread-local destructors, threads and `'static` data of Rust code make that unsound
//! (rust-lang/rust #59629, #91979). Memory comes back when the worker is replaced.

#![expect(unsafe_code, reason = "opening a library runs its code")]
#![expect(clippy::disallowed_methods, reason = "this is the one place that may")]

use std::path::{Path, PathBuf};

use abi_stable::library::{AbiHeaderRef, IsLayoutChecked};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use plugin_api::abi::metadata::HEADER_SYMBOL;
use plugin_api::abi::{LibHeader, ModuleRef};

use super::compat;

/// Why a library could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The dynamic linker refused: a missing symbol or shared library, or no room.
    #[error("cannot be opened: {0}")]
    Linker(String),
    /// No header symbol.
    #[error(
        "does not export `{HEADER_SYMBOL}`: it was not built with #[plugin], or was stripped of its symbols"
    )]
    NoHeader,
    /// Another abi_stable.
    #[error("was built with another abi_stable: {0}")]
    OtherAbiStable(String),
    /// Layouts differ although the versions do not.
    #[error("has other layouts than its ABI version promises: {0}")]
    Layout(String),
    /// The module could not be made.
    #[error("failed to hand out its functions: {0}")]
    Module(String),
}

/// Opens a private copy under a path that was never used before (glibc would hand out an older library for a known
/// path or inode), checks its layouts, and returns its functions. They stay valid for ever. Runs the library's
/// constructors: call it where a crash or a hang can be afforded.
///
/// # Errors
/// The dynamic linker, the header or the layouts say no. What was mapped stays mapped.
pub fn open(path: &Path) -> Result<ModuleRef, OpenError> {
    let header = header(path)?;
    if let IsLayoutChecked::Yes(layout) = header.root_mod_consts().layout() {
        compat::check(layout).map_err(OpenError::Layout)?;
    } else {
        return Err(OpenError::Layout("they are missing".to_owned()));
    }
    // SAFETY: the layout was compared above, and one of both is a prefix of the other.
    let module = unsafe { header.init_root_module_with_unchecked_layout::<ModuleRef>() };
    module.map_err(|error| OpenError::Module(error.to_string()))
}

/// What the dynamic linker says; libloading has it one level down.
fn reason(error: &libloading::Error) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), ToString::to_string)
}

fn header(path: &Path) -> Result<&'static LibHeader, OpenError> {
    // RTLD_NOW, so that a missing symbol fails here and not in the middle of a call; RTLD_LOCAL, so that two
    // libraries never see each other's symbols.
    let path: PathBuf = path.into();
    // SAFETY: constructors of the library run here. It passed the checks of its file and metadata, and the operator
    // trusts what lies in the plugins folder.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
    let library = library.map_err(|error| OpenError::Linker(reason(&error)))?;
    // SAFETY: the symbol is the static that #[plugin] exports: an `LibHeader`, which starts with an `AbiHeader`.
    let symbol = unsafe { library.get::<AbiHeaderRef>(HEADER_SYMBOL.as_bytes()) };
    let header = *symbol.map_err(|_| OpenError::NoHeader)?;
    std::mem::forget(library);
    header
        .upgrade()
        .map_err(|error| OpenError::OtherAbiStable(error.to_string()))
}
