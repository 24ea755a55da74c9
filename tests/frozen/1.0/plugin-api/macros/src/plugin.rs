//! `#[plugin]`.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{Ident, ImplItem, ItemImpl, LitInt, LitStr, Result, Token, Type, parse_quote, parse2};

use crate::needs::Needs;

/// The phases, with their bits in `Plugin::PHASES` (1 << the number of the phase in the ABI).
const PHASES: [(&str, u32); 6] = [
    ("certificate", 1),
    ("rewrite", 2),
    ("access", 3),
    ("header_filter", 4),
    ("body_filter", 5),
    ("log", 6),
];

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let arguments: Arguments = parse2(arguments)?;
    let mut item: ItemImpl = parse2(item)?;
    require_plugin(&item)?;
    let phases = Phases::take(&mut item)?;
    fill_in(&mut item)?;
    let about = about(&arguments, &phases, has_state(&item)?);
    let bits = phases.bits();
    item.items
        .push(parse_quote! { #[doc(hidden)] const PHASES: u32 = #bits; });
    item.items
        .push(parse_quote! { #[doc(hidden)] const ABOUT: &'static str = concat!(#(#about),*); });
    let export = export(&item, &about);
    Ok(quote! { #item #export })
}

/// Whether it hands on the state of its confs.
fn has_state(item: &ItemImpl) -> Result<bool> {
    let find = |name: &str| {
        item.items.iter().find_map(|member| match member {
            ImplItem::Fn(function) if function.sig.ident == name => Some(&function.sig.ident),
            _ => None,
        })
    };
    match (find("export_state"), find("import_state")) {
        (Some(_), Some(_)) => Ok(true),
        (None, None) => Ok(false),
        (Some(found), None) | (None, Some(found)) => {
            let message = "`export_state` and `import_state` belong together: what one hands out, the other takes";
            Err(syn::Error::new(found.span(), message))
        }
    }
}

fn require_plugin(item: &ItemImpl) -> Result<()> {
    let name = item
        .trait_
        .as_ref()
        .and_then(|(_, path, _)| path.segments.last());
    if name.is_some_and(|segment| segment.ident == "Plugin") && item.generics.params.is_empty() {
        return Ok(());
    }
    let message = "`#[plugin]` stands on `impl Plugin for YourType`, without generic parameters";
    match item.generics.params.is_empty() {
        true => Err(syn::Error::new_spanned(&item.self_ty, message)),
        false => Err(syn::Error::new_spanned(&item.generics, message)),
    }
}

struct Arguments {
    name: Option<LitStr>,
    version: Option<LitStr>,
    priority: i32,
    blocking: bool,
    authenticates: bool,
    min_runner: Option<LitStr>,
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut all = Self {
            name: None,
            version: None,
            priority: 0,
            blocking: false,
            authenticates: false,
            min_runner: None,
        };
        while !input.is_empty() {
            all.parse_one(input)?;
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(all)
    }
}

impl Arguments {
    fn parse_one(&mut self, input: ParseStream<'_>) -> Result<()> {
        let key: Ident = input.parse()?;
        if key == "blocking" || key == "authenticates" {
            self.blocking |= key == "blocking";
            self.authenticates |= key == "authenticates";
            return Ok(());
        }
        match key.to_string().as_str() {
            "name" => self.name = Some(text(&key, input)?),
            "version" => self.version = Some(text(&key, input)?),
            "min_runner" => self.min_runner = Some(text(&key, input)?),
            "priority" => self.priority = priority(input)?,
            _ => {
                let message = "`#[plugin]` knows `name`, `version`, `priority`, `blocking`, `authenticates` and `min_runner`";
                return Err(syn::Error::new(key.span(), message));
            }
        }
        Ok(())
    }
}

fn text(key: &Ident, input: ParseStream<'_>) -> Result<LitStr> {
    input.parse::<Token![=]>()?;
    let text: LitStr = input.parse()?;
    if text.value().is_empty() {
        let message = format!("`{key}` must not be empty: leave it out for the default");
        return Err(syn::Error::new(text.span(), message));
    }
    Ok(text)
}

fn priority(input: ParseStream<'_>) -> Result<i32> {
    input.parse::<Token![=]>()?;
    let negative = input.parse::<Option<Token![-]>>()?.is_some();
    let number = input.parse::<LitInt>();
    let number = number.and_then(|number| number.base10_parse::<i32>());
    let number = number.map_err(|error| {
        let message = "`priority` is a whole number of 32 bits: `priority = 1000`, `priority = -5`";
        syn::Error::new(error.span(), message)
    })?;
    Ok(if negative { -number } else { number })
}

struct Phases(Vec<(&'static str, u32, Needs)>);

impl Phases {
    fn take(item: &mut ItemImpl) -> Result<Self> {
        let mut found = Vec::new();
        for member in &mut item.items {
            let ImplItem::Fn(function) = member else {
                continue;
            };
            let name = function.sig.ident.to_string();
            let needs = Needs::take(&mut function.attrs)?;
            match PHASES.iter().find(|(phase, _)| *phase == name) {
                Some((phase, number)) => {
                    needs.suit(&function.sig.ident)?;
                    found.push((*phase, *number, needs));
                }
                None if !needs.is_empty() => {
                    let message = "only a phase can declare needs";
                    return Err(syn::Error::new(function.sig.ident.span(), message));
                }
                None => {}
            }
        }
        Ok(Self(found))
    }

    fn bits(&self) -> u32 {
        self.0
            .iter()
            .fold(0, |bits, (_, number, _)| bits | 1 << number)
    }

    fn names(&self) -> String {
        let names: Vec<_> = self
            .0
            .iter()
            .map(|(name, ..)| format!("\"{name}\""))
            .collect();
        names.join(",")
    }

    fn needs(&self) -> String {
        let needs = self.0.iter().filter(|(.., needs)| !needs.is_empty());
        needs
            .map(|(name, _, needs)| needs.json(name))
            .collect::<Vec<_>>()
            .join(",")
    }
}

/// What a simple plugin leaves out.
fn fill_in(item: &mut ItemImpl) -> Result<()> {
    let find = |name: &str| {
        let mut idents = item.items.iter().filter_map(|member| match member {
            ImplItem::Fn(function) => Some(&function.sig.ident),
            ImplItem::Type(alias) => Some(&alias.ident),
            _ => None,
        });
        idents.find(|ident| *ident == name).cloned()
    };
    let (prepared, configure, init) = (find("Prepared"), find("configure"), find("init_worker"));
    let config = item.items.iter().find_map(|member| match member {
        ImplItem::Type(alias) if alias.ident == "Config" => Some(alias.ty.clone()),
        _ => None,
    });
    let plugin = (*item.self_ty).clone();
    match (config, prepared, configure) {
        (Some(config), None, None) => item.items.extend(config_as_prepared(&config)),
        (Some(_), Some(_), Some(_)) => {}
        (None, ..) => {
            let message = "`type Config = …;` is missing: a type with `#[config]`, or `RawConfig`";
            return Err(syn::Error::new_spanned(&plugin, message));
        }
        (_, Some(prepared), None) => {
            let message = "`configure` is missing: it makes the `Prepared` from the `Config`";
            return Err(syn::Error::new(prepared.span(), message));
        }
        (_, None, Some(configure)) => {
            let message = "`type Prepared = …;` is missing: what `configure` makes";
            return Err(syn::Error::new(configure.span(), message));
        }
    }
    if init.is_none() {
        item.items.push(init_by_default(&plugin));
    }
    Ok(())
}

fn config_as_prepared(config: &Type) -> [ImplItem; 2] {
    [
        parse_quote! { type Prepared = #config; },
        parse_quote! {
            fn configure(
                &self,
                config: Self::Config,
                _: &::plugin_api::ConfContext,
            ) -> ::plugin_api::Result<Self::Prepared> {
                ::core::result::Result::Ok(config)
            }
        },
    ]
}

/// The place of the type, and the function's name, are what an author without `Default` gets to see.
fn init_by_default(plugin: &Type) -> ImplItem {
    let call = quote_spanned! {plugin.span()=>
        ::plugin_api::abi::shim::without_init_worker_a_plugin_needs_default::<#plugin>()
    };
    parse_quote! {
        fn init_worker(_: &::plugin_api::InitContext) -> ::plugin_api::Result<Self> {
            ::core::result::Result::Ok(#call)
        }
    }
}

/// The JSON of the metadata, as parts that are literals, macros of the compiler, or constants of plugin-api.
fn about(arguments: &Arguments, phases: &Phases, state: bool) -> Vec<TokenStream> {
    let name = arguments
        .name
        .as_ref()
        .map_or(quote!(env!("CARGO_PKG_NAME")), literal);
    let version = arguments
        .version
        .as_ref()
        .map_or(quote!(env!("CARGO_PKG_VERSION")), literal);
    let min_runner = arguments.min_runner.as_ref().map_or(quote!(""), literal);
    let rest = format!(
        "\",\"priority\":{},\"blocking\":{},\"authenticates\":{},\"state\":{state},\"phases\":[{}],\"needs\":{{{}}}}}",
        arguments.priority,
        arguments.blocking,
        arguments.authenticates,
        phases.names(),
        phases.needs()
    );
    vec![
        quote!("{\"name\":\""),
        name,
        quote!("\",\"version\":\""),
        version,
        quote!("\",\"min_runner\":\""),
        min_runner,
        quote!(#rest),
    ]
}

/// The text of a literal as it stands inside of a JSON string.
fn literal(text: &LitStr) -> TokenStream {
    let quoted = json_string(&text.value());
    let inner = &quoted[1..quoted.len() - 1];
    quote!(#inner)
}

/// A JSON string: quotes, backslashes and control characters escaped.
pub(crate) fn json_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(control)))
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// The two symbols of the library: metadata that is read before any code runs, and the header of the ABI.
fn export(item: &ItemImpl, about: &[TokenStream]) -> TokenStream {
    let plugin = &item.self_ty;
    let section = syn::LitStr::new(".plugin_runner", Span::call_site());
    quote! {
        const _: () = {
            const TEXT: &[&str] = &[
                "{\"api\":\"",
                ::plugin_api::abi::metadata::API_VERSION,
                "\",\"rustc\":\"",
                ::plugin_api::abi::metadata::RUSTC,
                "\",\"target\":\"",
                ::plugin_api::abi::metadata::TARGET,
                "\",\"plugins\":[",
                #(#about,)*
                "]}",
            ];

            #[used]
            #[unsafe(link_section = #section)]
            static METADATA: ::plugin_api::abi::Metadata<{ ::plugin_api::abi::metadata::text_len(TEXT) }> =
                ::plugin_api::abi::Metadata::new(cfg!(panic = "unwind"), TEXT);

            #[unsafe(no_mangle)]
            #[allow(non_upper_case_globals)]
            pub static plugin_runner_header: ::plugin_api::abi::LibHeader =
                ::plugin_api::abi::shim::header::<#plugin>();
        };
    }
}
