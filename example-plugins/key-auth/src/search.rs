//! Looks for the key in a request, and takes it away. Decides nothing.

use plugin_api::serde_json::{self, Value};
use plugin_api::{Request, Result};

use crate::Config;

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    Key {
        name: String,
        key: Vec<u8>,
    },
    /// The same name came with several values.
    Several,
}

/// Looks under each name in turn: in the headers, then the query, then the body.
pub(crate) fn search(config: &Config, request: &Request<'_>) -> Result<Found> {
    let mut body = None;
    for name in &config.key_names {
        let mut values: Vec<Vec<u8>> = Vec::new();
        if config.key_in_header {
            values.extend(
                request
                    .header_values(name)
                    .map(|value| value.as_bytes().to_vec()),
            );
        }
        if values.is_empty() && config.key_in_query {
            let args = request.arg_values(name).filter_map(|arg| arg.value());
            values.extend(args.map(|value| value.as_bytes().to_vec()));
        }
        if values.is_empty() && config.key_in_body {
            let body = match &body {
                Some(body) => body,
                None => body.insert(Body::of(request)?),
            };
            values.extend(body.values(name));
        }
        match (values.len(), values.pop()) {
            (0, _) | (_, None) => {}
            (1, Some(key)) => {
                let name = name.clone();
                return Ok(Found::Key { name, key });
            }
            _ => return Ok(Found::Several),
        }
    }
    Ok(Found::Nothing)
}

/// Takes a name away, so that the upstream does not see the key.
pub(crate) fn hide(config: &Config, name: &str, request: &mut Request<'_>) -> Result<()> {
    request.remove_header(name)?;
    request.remove_arg(name)?;
    if config.key_in_body {
        match Body::of(request)? {
            Body::Form(form) if form.iter().any(|(key, _)| key == name) => {
                let rest = form.into_iter().filter(|(key, _)| key != name);
                let body = form_urlencoded::Serializer::new(String::new())
                    .extend_pairs(rest)
                    .finish();
                // The gateway sends the client's own body in place of an empty one; this is a form without a field.
                request.set_body(if body.is_empty() { "&" } else { &body })?;
            }
            Body::Json(mut object) if object.contains_key(name) => {
                object.remove(name);
                request.set_body(serde_json::to_vec(&object)?)?;
            }
            _ => {}
        }
    }
    Ok(())
}

enum Body {
    Form(Vec<(String, String)>),
    Json(serde_json::Map<String, Value>),
    Other,
}

impl Body {
    /// The body, if it is a form or a JSON object.
    fn of(request: &Request<'_>) -> Result<Self> {
        let kind = request.header("content-type").map(|kind| kind.to_string());
        let kind = kind.unwrap_or_default().to_ascii_lowercase();
        match kind.split(';').next().unwrap_or_default().trim() {
            "application/x-www-form-urlencoded" => Ok(Self::Form(request.body_form()?)),
            "application/json" => {
                let body = request.body()?;
                let body = body.and_then(|body| serde_json::from_slice(body.as_bytes()).ok());
                Ok(body.map_or(Self::Other, Self::Json))
            }
            _ => Ok(Self::Other),
        }
    }

    fn values(&self, name: &str) -> Vec<Vec<u8>> {
        match self {
            Self::Form(form) => {
                let values = form.iter().filter(|(key, _)| key == name);
                values
                    .map(|(_, value)| value.clone().into_bytes())
                    .collect()
            }
            Self::Json(object) => match object.get(name) {
                Some(Value::String(key)) => vec![key.clone().into_bytes()],
                // As a name that came more than once.
                Some(Value::Array(_) | Value::Object(_)) => vec![Vec::new(), Vec::new()],
                _ => Vec::new(),
            },
            Self::Other => Vec::new(),
        }
    }
}
