//! Arguments of the project's own commands, checked against the usage line that the help shows.

use crate::run::Stop;
use std::ffi::OsString;

/// What was given.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    flags: Vec<String>,
    values: Vec<(String, String)>,
    /// Arguments that are no flags.
    pub(crate) names: Vec<String>,
}

impl Flags {
    /// Checks `args` against a usage line such as `[SUITE…] [--full] [--json=FILE]`.
    pub(crate) fn parse(usage: &str, args: Vec<OsString>) -> Result<Flags, Stop> {
        let known: Vec<&str> = usage.split_whitespace().map(|word| word.trim_matches(['[', ']'])).collect();
        let wrong = |arg: &str| Stop::usage(format!("{arg:?} is not known here; usage: {usage}"));
        let mut found = Flags::default();
        for arg in args {
            let arg = arg.into_string().map_err(|arg| wrong(&arg.to_string_lossy()))?;
            if !arg.starts_with('-') {
                if !known.iter().any(|word| word.ends_with('…')) {
                    return Err(wrong(&arg));
                }
                found.names.push(arg);
            } else if known.contains(&&*arg) && !arg.contains('=') {
                found.flags.push(arg);
            } else {
                let (key, value) = arg.split_once('=').ok_or_else(|| wrong(&arg))?;
                if !known.iter().any(|word| word.split_once('=').is_some_and(|(known, _)| known == key)) {
                    return Err(wrong(&arg));
                }
                found.values.push((key.to_owned(), value.to_owned()));
            }
        }
        Ok(found)
    }

    /// Whether `flag` was given.
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|found| found == flag)
    }

    /// The value of `key`, the last one if it was given twice.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        self.values.iter().rfind(|(found, _)| found == key).map(|(_, value)| &**value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(usage: &str, args: &str) -> Result<Flags, Stop> {
        Flags::parse(usage, args.split_whitespace().map(OsString::from).collect())
    }

    #[test]
    fn only_what_the_usage_names_is_taken() {
        let usage = "[ROW…] [--pairs=N] [--quick]";
        let flags = parse(usage, "a --quick b --pairs=3 --pairs=9").unwrap();
        assert_eq!(flags.names, ["a", "b"]);
        assert!(flags.has("--quick") && !flags.has("--full"));
        assert_eq!(flags.value("--pairs"), Some("9"));
        for wrong in ["--full", "--pairs", "--quick=1", "--pairs=N --json=x"] {
            assert_eq!(parse(usage, wrong).unwrap_err().code, 2, "{wrong}");
        }
        assert_eq!(parse("[--full]", "name").unwrap_err().code, 2);
        assert_eq!(parse("[--json=FILE]", "--json=FILE").unwrap().value("--json"), Some("FILE"));
    }
}
