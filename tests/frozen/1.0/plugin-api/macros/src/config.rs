//! `#[config]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{DeriveInput, Result, parse2};

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    if !arguments.is_empty() {
        return Err(syn::Error::new_spanned(
            arguments,
            "`#[config]` takes no arguments: put `#[serde(…)]` below it",
        ));
    }
    let item: DeriveInput = parse2(item)?;
    if let syn::Data::Union(union) = &item.data {
        return Err(syn::Error::new_spanned(
            union.union_token,
            "a configuration is a struct or an enum",
        ));
    }
    Ok(quote! {
        #[derive(
            ::core::fmt::Debug,
            ::core::clone::Clone,
            ::plugin_api::serde::Deserialize,
            ::plugin_api::schemars::JsonSchema,
        )]
        #[serde(crate = "::plugin_api::serde", deny_unknown_fields)]
        #[schemars(crate = "::plugin_api::schemars")]
        #item
    })
}
