//! The JSON Schema of a plugin's conf: what may stand in it, said before the author's code sees it.

use std::collections::BTreeSet;
use std::fmt::Write;

use jsonschema::error::ValidationErrorKind as Kind;
use jsonschema::{ValidationError, Validator};
use serde_json::Value;

/// Faults that are told of one conf.
const MAX_FAULTS: usize = 8;
/// Bytes of one fault: a conf may be large, and the fault may quote it.
const MAX_FAULT: usize = 300;

/// A schema that was understood.
#[derive(Debug)]
pub struct Schema {
    value: Value,
    validator: Validator,
}

impl Schema {
    /// `None` for null: the plugin reads the bytes itself.
    ///
    /// # Errors
    /// It is no JSON Schema, or refers to something that is not in it.
    pub fn new(value: Value) -> Result<Option<Self>, String> {
        if value.is_null() {
            return Ok(None);
        }
        let validator = jsonschema::validator_for(&value).map_err(|error| error.to_string())?;
        Ok(Some(Self { value, validator }))
    }

    /// The schema.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Checks the value of a conf; none, or an empty one, stands for `{}`. What is no JSON is left to the plugin.
    ///
    /// # Errors
    /// Every fault: where it is, what was found there, what is allowed.
    pub fn check(&self, conf: &[u8]) -> Result<(), String> {
        let conf = match conf.trim_ascii() {
            b"" => b"{}",
            conf => conf,
        };
        let Ok(conf) = serde_json::from_slice::<Value>(conf) else {
            return Ok(());
        };
        let mut faults = Vec::new();
        for error in self.validator.iter_errors(&conf) {
            self.explain(&error, &mut faults);
        }
        if faults.is_empty() {
            return Ok(());
        }
        let more = faults.len().saturating_sub(MAX_FAULTS);
        faults.truncate(MAX_FAULTS);
        let mut text = faults.join("; ");
        if more > 0 {
            let _ = write!(text, "; and {more} more");
        }
        Err(text)
    }

    fn explain(&self, error: &ValidationError<'_>, faults: &mut Vec<String>) {
        match error.kind() {
            Kind::AdditionalProperties { unexpected }
            | Kind::UnevaluatedProperties { unexpected } => {
                for key in unexpected {
                    faults.push(self.unknown(error, key));
                }
            }
            Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
                self.explain_choice(error, context, faults);
            }
            Kind::Required { property } => {
                let key = property.as_str().unwrap_or_default();
                faults.push(format!(
                    "at {}: missing, and it is needed",
                    place(error, Some(key))
                ));
            }
            _ => faults.push(shortened(&format!("at {}: {error}", place(error, None)))),
        }
    }

    /// Of several forms that are allowed, the one that the conf comes nearest to.
    fn explain_choice(
        &self,
        error: &ValidationError<'_>,
        forms: &[Vec<ValidationError<'static>>],
        faults: &mut Vec<String>,
    ) {
        let constants: Option<BTreeSet<String>> = forms
            .iter()
            .map(|form| match form.first()?.kind() {
                Kind::Constant { expected_value } => Some(expected_value.to_string()),
                Kind::Enum { options } => Some(
                    options
                        .as_array()?
                        .iter()
                        .map(Value::to_string)
                        .collect::<Vec<_>>()
                        .join(", "),
                ),
                _ => None,
            })
            .collect();
        let at = place(error, None);
        if let Some(constants) = constants {
            let allowed = constants.into_iter().collect::<Vec<_>>().join(", ");
            let found = error.instance();
            return faults.push(shortened(&format!(
                "at {at}: {found} is not one of {allowed}"
            )));
        }
        let depth = |form: &Vec<ValidationError<'static>>| {
            let depths = form
                .iter()
                .map(|fault| fault.instance_path().as_str().len());
            depths.max().unwrap_or(0)
        };
        match forms.iter().max_by_key(|form| depth(form)) {
            Some(nearest) if depth(nearest) > error.instance_path().as_str().len() => {
                nearest.iter().for_each(|fault| self.explain(fault, faults));
            }
            _ => {
                let mut reasons: Vec<String> = Vec::new();
                for fault in forms.iter().flatten() {
                    let mut found = Vec::new();
                    self.explain(fault, &mut found);
                    let found = found.into_iter().filter(|reason| !reasons.contains(reason));
                    reasons.extend(found.collect::<Vec<_>>());
                }
                faults.push(shortened(&reasons.join(", or ")));
            }
        }
    }

    fn unknown(&self, error: &ValidationError<'_>, key: &str) -> String {
        let keyword = error.schema_path().as_str();
        let object = keyword.rsplit_once('/').map_or("", |(object, _)| object);
        let known = self
            .value
            .pointer(object)
            .and_then(|object| object.get("properties"));
        let known: Vec<&str> = known
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(|known| known.keys().map(String::as_str))
            .collect();
        let nearest = known
            .iter()
            .map(|name| {
                (
                    strsim::damerau_levenshtein(&key.to_lowercase(), name),
                    *name,
                )
            })
            .min()
            .filter(|(distance, name)| *distance <= 1 + name.len() / 3);
        let at = place(error, Some(key));
        match nearest {
            Some((_, name)) => format!("at {at}: unknown key; did you mean `{name}`?"),
            None if known.is_empty() => format!("at {at}: unknown key; there are none here"),
            None => format!(
                "at {at}: unknown key; the keys here are {}",
                known.join(", ")
            ),
        }
    }
}

/// `filters[0].regex`, in backticks; `the top` when it is all of the conf.
fn place(error: &ValidationError<'_>, key: Option<&str>) -> String {
    let mut path = String::new();
    let parts = error.instance_path().as_str().split('/').skip(1);
    let parts = parts.map(|part| part.replace("~1", "/").replace("~0", "~"));
    for part in parts.chain(key.map(str::to_owned)) {
        let is_index = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        match (is_index, path.is_empty()) {
            (true, _) => path += &format!("[{part}]"),
            (false, true) => path += &part,
            (false, false) => path += &format!(".{part}"),
        }
    }
    if path.is_empty() {
        return "the top".to_owned();
    }
    format!("`{path}`")
}

fn shortened(fault: &str) -> String {
    if fault.len() <= MAX_FAULT {
        return fault.to_owned();
    }
    // The end says what is allowed.
    let (head, tail) = (MAX_FAULT / 2, fault.len() - MAX_FAULT / 2);
    let head = (0..=head).rev().find(|at| fault.is_char_boundary(*at));
    let tail = (tail..fault.len()).find(|at| fault.is_char_boundary(*at));
    let (head, tail) = (head.unwrap_or(0), tail.unwrap_or(fault.len()));
    format!("{} … {}", &fault[..head], &fault[tail..])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "additionalProperties": false,
            "required": ["key"],
            "properties": {
                "key": {"type": "string"},
                "status": {"type": "integer", "minimum": 200, "maximum": 599, "default": 200},
                "filters": {"type": "array", "items": {"$ref": "#/$defs/Filter"}},
                "scope": {"oneOf": [{"const": "once", "description": "x"}, {"const": "global"}]},
                "maybe": {"anyOf": [{"$ref": "#/$defs/Filter"}, {"type": "null"}]},
            },
            "$defs": {
                "Filter": {
                    "type": "object",
                    "additionalProperties": false,
                    "properties": {"regex": {"type": "string"}, "replace": {"type": "string"}},
                },
            },
        });
        Schema::new(schema).unwrap().unwrap()
    }

    #[track_caller]
    fn check(conf: &str, expected: &str) {
        let found = schema().check(conf.as_bytes()).err().unwrap_or_default();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_the_schema_allows_passes() {
        check(
            r#"{"key": "x", "status": 204, "filters": [{"regex": "a"}], "scope": "once"}"#,
            "",
        );
        check(r#"{"key": "x", "maybe": null}"#, "");
    }

    #[test]
    fn a_fault_names_the_place_what_was_found_and_what_is_allowed() {
        check(
            r#"{"key": "x", "status": 150}"#,
            "at `status`: 150 is less than the minimum of 200",
        );
        check(
            r#"{"key": "x", "filters": [{}, {"regex": 5}]}"#,
            r#"at `filters[1].regex`: 5 is not of type "string""#,
        );
        check(
            r#"{"key": "x", "scope": "twice"}"#,
            r#"at `scope`: "twice" is not one of "global", "once""#,
        );
        check("[]", r#"at the top: [] is not of type "object""#);
    }

    #[test]
    fn a_missing_key_is_named_also_in_an_empty_conf() {
        for conf in ["", " ", "{}"] {
            check(conf, "at `key`: missing, and it is needed");
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_name() {
        check(
            r#"{"key": "x", "statsu": 1}"#,
            "at `statsu`: unknown key; did you mean `status`?",
        );
        check(
            r#"{"key": "x", "filters": [{"regxe": ""}]}"#,
            "at `filters[0].regxe`: unknown key; did you mean `regex`?",
        );
        check(
            r#"{"key": "x", "something": 1}"#,
            "at `something`: unknown key; the keys here are filters, key, maybe, scope, status",
        );
    }

    #[test]
    fn of_several_forms_the_nearest_is_explained() {
        check(
            r#"{"key": "x", "maybe": {"regex": 1}}"#,
            r#"at `maybe.regex`: 1 is not of type "string""#,
        );
        check(
            r#"{"key": "x", "maybe": 7}"#,
            r#"at `maybe`: 7 is not of type "object", or at `maybe`: 7 is not of type "null""#,
        );
    }

    #[test]
    fn all_faults_are_told_at_once_and_none_fills_the_log() {
        check(
            r#"{"status": "x", "kye": 1}"#,
            r#"at `status`: "x" is not of type "integer"; at `kye`: unknown key; did you mean `key`?; at `key`: missing, and it is needed"#,
        );
        let many = format!(r#"{{"key": {}}}"#, vec!["[1]"; 1000].join(",").len());
        assert!(schema().check(many.as_bytes()).unwrap_err().len() < 400);
        let long = format!(r#"{{"key": ["{}"]}}"#, "ä".repeat(5000));
        assert!(schema().check(long.as_bytes()).unwrap_err().len() < 400);
    }

    #[test]
    fn a_plugin_that_reads_the_bytes_itself_has_no_schema() {
        assert!(Schema::new(Value::Null).unwrap().is_none());
        assert!(Schema::new(json!({"$ref": "https://example.test/x.json"})).is_err());
        assert_eq!(schema().check(b"{ no json"), Ok(()));
    }
}
