//! Reads YAML nodes into values, and collects faults and warnings with their lines instead of stopping at the first.

use saphyr::{LoadableYamlNode, MarkedYaml};

/// Faults (the file is refused) and warnings (it serves), with 1-based lines.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) faults: Vec<(usize, String)>,
    pub(super) warnings: Vec<(usize, String)>,
}

/// One key of a mapping with its value.
pub(super) struct Field<'a> {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) value: &'a MarkedYaml<'a>,
}

/// Loads the one document of a file.
pub(super) fn load<'a>(text: &'a str, report: &mut Report) -> Option<MarkedYaml<'a>> {
    match MarkedYaml::load_from_str(text) {
        Ok(documents) if documents.len() == 1 => documents.into_iter().next(),
        Ok(_) => {
            report.fault(1, "the file must hold one YAML document with `routes:`");
            None
        }
        Err(error) => {
            report.fault(
                error.marker().line(),
                format!("not valid YAML: {}", error.info()),
            );
            None
        }
    }
}

pub(super) fn line(node: &MarkedYaml<'_>) -> usize {
    node.span.start.line()
}

impl Report {
    pub(super) fn fault(&mut self, line: usize, message: impl Into<String>) {
        self.faults.push((line, message.into()));
    }

    pub(super) fn warning(&mut self, line: usize, message: impl Into<String>) {
        self.warnings.push((line, message.into()));
    }

    /// The fields of a mapping; a fault and nothing if it is none. A null reads as an empty mapping.
    pub(super) fn fields<'a>(&mut self, node: &'a MarkedYaml<'a>, what: &str) -> Vec<Field<'a>> {
        if node.data.is_null() {
            return Vec::new();
        }
        let Some(mapping) = node.data.as_mapping() else {
            self.fault(line(node), format!("{what} must be a mapping"));
            return Vec::new();
        };
        let mut fields = Vec::new();
        for (key, value) in mapping {
            match scalar_text(key) {
                Some(name) => fields.push(Field {
                    name,
                    line: line(key),
                    value,
                }),
                None => self.fault(line(key), format!("a key of {what} must be text")),
            }
        }
        fields
    }

    /// The items of a list; a fault and nothing if it is none.
    pub(super) fn items<'a>(
        &mut self,
        node: &'a MarkedYaml<'a>,
        what: &str,
    ) -> &'a [MarkedYaml<'a>] {
        match node.data.as_sequence() {
            Some(items) => items,
            None => {
                self.fault(line(node), format!("{what} must be a list"));
                &[]
            }
        }
    }

    /// Text only: a number or a boolean is a fault, as it is in the gateway.
    pub(super) fn text(&mut self, node: &MarkedYaml<'_>, what: &str) -> Option<String> {
        let text = node.data.as_str().map(str::to_owned);
        if text.is_none() {
            self.fault(line(node), format!("{what} must be text; put it in quotes"));
        }
        text
    }

    /// Text or a whole number.
    pub(super) fn id(&mut self, node: &MarkedYaml<'_>, what: &str) -> Option<String> {
        let id = scalar_text(node).filter(|id| !id.is_empty());
        if id.is_none() {
            self.fault(line(node), format!("{what} must be text or a whole number"));
        }
        id
    }

    pub(super) fn integer(&mut self, node: &MarkedYaml<'_>, what: &str) -> Option<i64> {
        let number = node.data.as_integer();
        if number.is_none() {
            self.fault(line(node), format!("{what} must be a whole number"));
        }
        number
    }

    pub(super) fn boolean(&mut self, node: &MarkedYaml<'_>, what: &str) -> Option<bool> {
        let value = node.data.as_bool();
        if value.is_none() {
            self.fault(line(node), format!("{what} must be true or false"));
        }
        value
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, node: &MarkedYaml<'_>, what: &str) -> Vec<String> {
        let Some(items) = node.data.as_sequence() else {
            self.fault(line(node), format!("{what} must be a list"));
            return Vec::new();
        };
        items
            .iter()
            .filter_map(|item| self.text(item, &format!("an item of {what}")))
            .collect()
    }
}

fn scalar_text(node: &MarkedYaml<'_>) -> Option<String> {
    let number = || node.data.as_integer().map(|number| number.to_string());
    node.data.as_str().map(str::to_owned).or_else(number)
}
