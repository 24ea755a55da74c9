//! The attributes of `gateway-plugin-api`. Use them through that crate, which documents them.

mod config;
mod needs;
mod plugin;

use proc_macro::TokenStream;

/// Makes a struct or enum a plugin's configuration: readable from JSON, unknown keys refused, with a JSON Schema.
///
/// It adds `Deserialize` and `JsonSchema`; fields take their attributes (`#[serde(default)]`, `#[schemars(range(…))]`)
/// and doc comments become the schema's descriptions.
#[proc_macro_attribute]
pub fn config(arguments: TokenStream, item: TokenStream) -> TokenStream {
    config::expand(arguments.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Exports an `impl Plugin for …` block as the library's plugin, and fills in what it leaves out.
///
/// Arguments: `name = "…"` (default: the package's name), `version = "…"` (default: the package's), `priority = N`
/// (default 0; higher runs first where no order is given), `blocking` (never run on an event loop), `authenticates` (says with
/// `set_consumer` who the client is: bindings to consumers need one such plugin before them),
/// `min_runner = "…"`. A phase may declare what it needs: `#[needs(variables("a", "b"), request_body)]`,
/// `#[needs(response_body)]`; all declared needs of a call are asked in one go.
///
/// Filled in: `type Prepared = Self::Config` with `configure`, when `Prepared` is not given; `init_worker`, when the
/// plugin implements `Default` (or is a unit struct that derives it).
#[proc_macro_attribute]
pub fn plugin(arguments: TokenStream, item: TokenStream) -> TokenStream {
    plugin::expand(arguments.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
