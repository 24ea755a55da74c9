//! Whether the layouts of a library fit ours: the safety net behind the metadata.
//!
//! abi_stable assumes that a library is at least as new as its user. Plugins may be older or newer, so the check is
//! made in both directions, each with globals of its own (the shared ones remember earlier libraries and refuse the
//! next). Sound as long as plugin-api has one linear history: of two layouts one is then a prefix of the other.

use abi_stable::StableAbi;
use abi_stable::abi_stability::abi_checking::{
    CheckingGlobals, check_layout_compatibility_with_globals,
};
use abi_stable::type_layout::TypeLayout;
use plugin_api::abi::ModuleRef;

/// Checks the layout that a library gives for its module.
///
/// # Errors
/// What differs, in abi_stable's words, shortened to the last cause.
pub fn check(library: &'static TypeLayout) -> Result<(), String> {
    let ours = <ModuleRef as StableAbi>::LAYOUT;
    let newer = compare(ours, library);
    newer.or_else(|error| compare(library, ours).map_err(|_| error))
}

fn compare(
    interface: &'static TypeLayout,
    implementation: &'static TypeLayout,
) -> Result<(), String> {
    let globals = CheckingGlobals::new();
    check_layout_compatibility_with_globals(interface, implementation, &globals)
        .map_err(|errors| last_cause(&errors.to_string()))
}

/// The text runs to kilobytes; its last `Error:` block is normally the cause.
fn last_cause(text: &str) -> String {
    let block = text.rsplit("Error:").next().unwrap_or(text);
    let words: Vec<_> = block.split_whitespace().take(40).collect();
    words.join(" ")
}
