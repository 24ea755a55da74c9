//! How the bytes of a conf become the author's `Config`.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Error, Result};

/// What a plugin takes as its configuration: any type with `#[config]`, or [`RawConfig`].
pub trait Configuration: Sized + Send + 'static {
    /// Reads the conf's value as the gateway sent it. No value, or an empty one, stands for `{}`.
    ///
    /// # Errors
    /// What is wrong, where in the value, and what is allowed.
    fn read(value: &[u8]) -> Result<Self>;

    /// The JSON Schema of the value; `None` when the plugin reads the bytes itself.
    fn schema() -> Option<Value>;
}

impl<T: DeserializeOwned + JsonSchema + Send + 'static> Configuration for T {
    fn read(value: &[u8]) -> Result<Self> {
        let value = if value.trim_ascii().is_empty() {
            b"{}"
        } else {
            value
        };
        let mut reader = serde_json::Deserializer::from_slice(value);
        let config = serde_path_to_error::deserialize(&mut reader).map_err(explain)?;
        reader.end()?;
        Ok(config)
    }

    fn schema() -> Option<Value> {
        Some(schemars::schema_for!(T).to_value())
    }
}

/// The value of the conf, untouched: for a plugin whose configuration is not JSON. Turn it into something in
/// `configure`:
///
/// ```
/// # use plugin_api::{ConfContext, RawConfig, Result};
/// # struct Mine;
/// # type Prepared = Vec<String>;
/// # impl Mine {
/// fn configure(&self, config: RawConfig, _: &ConfContext) -> Result<Prepared> {
///     let text = String::from_utf8(config.0)?;
///     Ok(text.lines().map(str::to_owned).collect())
/// }
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawConfig(
    /// The bytes as the gateway sent them; empty when it sent none.
    pub Vec<u8>,
);

impl Configuration for RawConfig {
    fn read(value: &[u8]) -> Result<Self> {
        Ok(Self(value.to_vec()))
    }

    fn schema() -> Option<Value> {
        None
    }
}

/// Adds the place in the conf, and the nearest name to an unknown key.
fn explain(error: serde_path_to_error::Error<serde_json::Error>) -> Error {
    let path = error.path().to_string();
    let cause = error.into_inner().to_string();
    let hint = nearest(&cause).map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
    match path.as_str() {
        "." => Error::new(format_args!("{cause}{hint}")),
        path => Error::new(format_args!("at `{path}`: {cause}{hint}")),
    }
}

/// serde says "unknown field `a`, expected one of `b`, `c`": the first name in backticks is the unknown one.
fn nearest(cause: &str) -> Option<&str> {
    if !cause.starts_with("unknown ") {
        return None;
    }
    let mut names = cause.split('`').skip(1).step_by(2);
    let unknown = names.next()?;
    let (distance, name) = names
        .map(|name| (strsim::damerau_levenshtein(unknown, name), name))
        .min()?;
    (distance <= 1 + unknown.len() / 3).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "the fields are there to be named in messages")]
    struct Config {
        #[serde(default)]
        status: u16,
        #[serde(default)]
        nested: Vec<Nested>,
    }

    #[derive(Debug, serde::Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "as above")]
    struct Nested {
        #[serde(default)]
        scope: String,
    }

    #[track_caller]
    fn refused(value: &str) -> String {
        Config::read(value.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_value_stands_for_an_empty_object() {
        for value in ["", " \n", "{}"] {
            assert_eq!(
                Config::read(value.as_bytes()).unwrap().status,
                0,
                "{value:?}"
            );
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place_and_the_nearest_name() {
        assert_eq!(
            refused(r#"{"statsu": 1}"#),
            "at `statsu`: unknown field `statsu`, expected `status` or `nested` at line 1 column 9; did you mean `status`?"
        );
        assert!(
            refused(r#"{"nested": [{"scoop": ""}]}"#)
                .starts_with("at `nested[0].scoop`: unknown field")
        );
        assert!(!refused(r#"{"x": 1}"#).contains("did you mean"));
    }

    #[test]
    fn a_wrong_type_names_what_was_found_and_what_is_allowed() {
        assert_eq!(
            refused(r#"{"status": "ok"}"#),
            "at `status`: invalid type: string \"ok\", expected u16 at line 1 column 15"
        );
        assert!(refused("{} x").contains("trailing characters"));
    }

    #[test]
    fn a_raw_configuration_keeps_every_byte() {
        assert_eq!(RawConfig::read(b"\xff {").unwrap().0, b"\xff {");
    }
}
