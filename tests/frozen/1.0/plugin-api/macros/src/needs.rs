//! `#[needs(…)]` on a phase.

use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Attribute, Ident, LitStr, Result, Token, parenthesized};

/// What a phase declares to need beyond the frame.
#[derive(Default)]
pub(crate) struct Needs {
    pub(crate) variables: Vec<String>,
    pub(crate) request_body: bool,
    pub(crate) response_body: bool,
}

impl Needs {
    /// Takes the attributes off the phase.
    pub(crate) fn take(attributes: &mut Vec<Attribute>) -> Result<Self> {
        let mut all = Self::default();
        let (needs, rest): (Vec<_>, _) = attributes
            .drain(..)
            .partition(|attribute| attribute.path().is_ident("needs"));
        *attributes = rest;
        for attribute in needs {
            all.add(attribute.parse_args()?);
        }
        Ok(all)
    }

    fn add(&mut self, other: Self) {
        self.variables.extend(other.variables);
        self.request_body |= other.request_body;
        self.response_body |= other.response_body;
    }

    /// `"access":{"variables":["a"],"request_body":true,"response_body":false}`
    pub(crate) fn json(&self, phase: &str) -> String {
        let variables: Vec<_> = self
            .variables
            .iter()
            .map(|name| crate::plugin::json_string(name))
            .collect();
        format!(
            "\"{phase}\":{{\"variables\":[{}],\"request_body\":{},\"response_body\":{}}}",
            variables.join(","),
            self.request_body,
            self.response_body
        )
    }

    /// Whether the phase can have it: a request's phase has no response yet, and the other way round.
    pub(crate) fn suit(&self, phase: &Ident) -> Result<()> {
        let (on_request, on_response) = (
            phase == "rewrite" || phase == "access",
            phase == "header_filter" || phase == "body_filter",
        );
        let message = match (self.request_body, self.response_body) {
            (true, _) if !on_request => "only `rewrite` and `access` can need `request_body`",
            (_, true) if !on_response => {
                "only `header_filter` and `body_filter` can need `response_body`"
            }
            _ => return Ok(()),
        };
        Err(syn::Error::new(phase.span(), message))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.variables.is_empty() && !self.request_body && !self.response_body
    }
}

impl Parse for Needs {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut needs = Self::default();
        while !input.is_empty() {
            let what: Ident = input.parse()?;
            match what.to_string().as_str() {
                "variables" => needs.variables.extend(names(input)?),
                "request_body" => needs.request_body = true,
                "response_body" => needs.response_body = true,
                _ => {
                    let message =
                        "a phase can need `variables(\"…\", …)`, `request_body` or `response_body`";
                    return Err(syn::Error::new(what.span(), message));
                }
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(needs)
    }
}

fn names(input: ParseStream<'_>) -> Result<Vec<String>> {
    let content;
    parenthesized!(content in input);
    let names = Punctuated::<LitStr, Token![,]>::parse_terminated(&content)?;
    if let Some(empty) = names.iter().find(|name| name.value().is_empty()) {
        return Err(syn::Error::new(empty.span(), "a variable has a name"));
    }
    Ok(names.iter().map(LitStr::value).collect())
}
