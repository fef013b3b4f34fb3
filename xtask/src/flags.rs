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
        let takes_value =
            |key: &str| known.iter().any(|word| word.split_once('=').is_some_and(|(known, _)| known == key));
        let mut found = Flags::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let arg = arg.into_string().map_err(|arg| wrong(&arg.to_string_lossy()))?;
            if !arg.starts_with('-') {
                if !known.iter().any(|word| word.ends_with('…')) {
                    return Err(wrong(&arg));
                }
                found.names.push(arg);
            } else if known.contains(&&*arg) && !arg.contains('=') {
                found.flags.push(arg);
            } else {
                let (key, value) = match arg.split_once('=') {
                    Some((key, value)) => (key, Some(value.to_owned())),
                    None => (&*arg, args.next().and_then(|value| value.into_string().ok())),
                };
                let value = value.filter(|_| takes_value(key)).ok_or_else(|| wrong(&arg))?;
                found.values.push((key.to_owned(), value));
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
        self.values(key).next_back()
    }

    /// Every value of `key`.
    pub(crate) fn values(&self, key: &str) -> impl DoubleEndedIterator<Item = &str> {
        self.values.iter().filter(move |(found, _)| found == key).map(|(_, value)| &**value)
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
        let flags = parse(usage, "--pairs 3 a --pairs=9 --quick").unwrap();
        assert_eq!(flags.values("--pairs").collect::<Vec<_>>(), ["3", "9"]);
        assert!(flags.names == ["a"] && flags.has("--quick"));
        for wrong in ["--full", "--pairs", "--quick=1", "--pairs=N --json=x", "--full 3"] {
            assert_eq!(parse(usage, wrong).unwrap_err().code, 2, "{wrong}");
        }
        assert_eq!(parse("[--full]", "name").unwrap_err().code, 2);
        assert_eq!(parse("[--json=FILE]", "--json=FILE").unwrap().value("--json"), Some("FILE"));
    }
}
