//! Options that readers and writers declare as data.

use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// One declared option; command line, `formats` and the C ABI are made from these.
#[derive(Clone, Copy, Debug)]
pub struct OptionSpec {
    /// Name, as in `--NAME VALUE`. A name that a reader and a writer both use means the same in both.
    pub name: &'static str,
    /// What values it takes.
    pub kind: OptionKind,
    /// Default, in the form the user would type; empty for none.
    pub default: &'static str,
    /// One line of help.
    pub help: &'static str,
}

/// What values an option takes.
#[derive(Clone, Copy, Debug)]
pub enum OptionKind {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// Any text.
    Text,
    /// One of these.
    Choice(&'static [&'static str]),
}

/// Option values, checked against their declarations.
#[derive(Clone, Debug, Default)]
pub struct Options {
    values: BTreeMap<&'static str, String>,
}

impl Options {
    /// Takes from `given` what `specs` declare, fills in defaults, and checks each value.
    ///
    /// Errors: [`Usage`](crate::error::ErrorKind::Usage) naming option and value. Names that nobody declared are the
    /// caller's to refuse, since it alone knows both sides.
    pub fn resolve(specs: &'static [OptionSpec], given: &BTreeMap<String, String>) -> Result<Options> {
        let mut values = BTreeMap::new();
        for spec in specs {
            let value = given.get(spec.name).map_or(spec.default, String::as_str);
            let fits = match spec.kind {
                OptionKind::Bool => matches!(value, "true" | "false" | ""),
                OptionKind::Int => value.is_empty() || value.parse::<i64>().is_ok(),
                OptionKind::Text => true,
                OptionKind::Choice(choices) => value.is_empty() || choices.contains(&value),
            };
            if !fits {
                let expected = match spec.kind {
                    OptionKind::Choice(choices) => choices.join(", "),
                    other => format!("{other:?}").to_lowercase(),
                };
                return Err(Error::usage(format!("--{}: unusable value", spec.name))
                    .expected(expected)
                    .found(value));
            }
            values.insert(spec.name, value.to_owned());
        }
        Ok(Options { values })
    }

    /// The value of a declared option; `None` when it was not given and has no default.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The options that have a value, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.values.iter().map(|(name, value)| (*name, value.as_str())).filter(|(_, value)| !value.is_empty())
    }

    /// Sets an option that somebody else has checked.
    pub fn set(&mut self, name: &'static str, value: &str) {
        self.values.insert(name, value.to_owned());
    }

    /// Whether a declared boolean option is `true`.
    pub fn is_on(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }
}
