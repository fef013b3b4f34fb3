//! Patterns over whole tensor names.

use modelferry_core::{Error, Result};

/// A pattern that matches whole names: `*` any run of characters (dots too), `?` one character, `[abc]`, `[a-z]` and
/// `[!a-z]` one of a set; everything else itself. A `[` is written `[[]`.
///
/// Matching takes time in proportion to pattern × name at worst: on a mismatch only the last `*` is tried further
/// on, since what an earlier one could gain the later one can too.
#[derive(Clone, Debug)]
pub struct Glob {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Run,
    One,
    Char(char),
    Set { negated: bool, ranges: Vec<(char, char)> },
}

impl Glob {
    /// Parses a pattern. Errors: [`Usage`](modelferry_core::ErrorKind::Usage) when a `[` is not closed.
    pub fn new(text: &str) -> Result<Glob> {
        let mut parts = vec![];
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '*' if parts.last() == Some(&Part::Run) => continue,
                '*' => Part::Run,
                '?' => Part::One,
                '[' => parse_set(&mut chars)
                    .ok_or_else(|| Error::usage("a '[' in a pattern is not closed").found(text))?,
                _ => Part::Char(c),
            });
        }
        Ok(Glob { text: text.to_owned(), parts })
    }

    /// The pattern as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the whole of `name` fits.
    pub fn matches(&self, name: &str) -> bool {
        let mut at = 0;
        let mut rest = name.chars();
        // The part after the last `*` met, and the name from where that `*` would end next.
        let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            if self.parts.get(at) == Some(&Part::Run) {
                at += 1;
                retry = Some((at, rest.clone()));
                continue;
            }
            let fits = match (self.parts.get(at), rest.next()) {
                (None, None) => return true,
                (Some(part), Some(c)) => part.takes(c),
                (None, Some(_)) => false,
                // Parts are left and the name is used up: a longer `*` would only leave less.
                (Some(_), None) => return false,
            };
            if fits {
                at += 1;
                continue;
            }
            let Some((after, from)) = &mut retry else { return false };
            if from.next().is_none() {
                return false;
            }
            at = *after;
            rest = from.clone();
        }
    }
}

impl Part {
    fn takes(&self, c: char) -> bool {
        match self {
            Part::Run | Part::One => true,
            Part::Char(wanted) => *wanted == c,
            Part::Set { negated, ranges } => {
                ranges.iter().any(|&(low, high)| (low..=high).contains(&c)) != *negated
            }
        }
    }
}

/// The rest of a set after its `[`; `None` if it is not closed. A `]` right after the opening stands for itself.
fn parse_set(chars: &mut std::str::Chars<'_>) -> Option<Part> {
    let mut next = chars.next()?;
    let negated = matches!(next, '!' | '^');
    if negated {
        next = chars.next()?;
    }
    let mut ranges = vec![];
    loop {
        let low = next;
        next = chars.next()?;
        let mut high = low;
        if next == '-' && !chars.as_str().starts_with(']') {
            high = chars.next()?;
            next = chars.next()?;
        }
        ranges.push((low, high));
        if next == ']' {
            return Some(Part::Set { negated, ranges });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let glob = Glob::new(pattern).unwrap();
        for name in yes {
            assert!(glob.matches(name), "{pattern} should match {name}");
        }
        for name in no {
            assert!(!glob.matches(name), "{pattern} should not match {name}");
        }
    }

    #[test]
    fn whole_names() {
        check("a.b", &["a.b"], &["a.bc", "xa.b", "a-b", ""]);
        check("", &[""], &["a"]);
        check("*", &["", "a", "a.b.c"], &[]);
        check("*.weight", &["a.weight", ".weight", "a.weight.weight"], &["weight", "a.weights"]);
        check("model.*.q?.*", &["model.0.q1.w", "model.a.b.qx."], &["model.q1.w", "model.0.q.w"]);
        check("?", &["ä", "x"], &["", "xy"]);
        check("**a**", &["a", "bab"], &["b", ""]);
    }

    #[test]
    fn sets() {
        check("layers.[0-3].w", &["layers.0.w", "layers.3.w"], &["layers.4.w", "layers.10.w"]);
        check("[!0-9]*", &["a", "a1"], &["1a", ""]);
        check("a[[]0]", &["a[0]"], &["a0"]);
        check("[]-]", &["]", "-"], &["a"]);
        check("[a-]", &["a", "-"], &["b"]);
        assert!(Glob::new("a[bc").is_err());
        assert!(Glob::new("a[").is_err());
    }

    #[test]
    fn hard_patterns_are_fast() {
        let glob = Glob::new(&"*a".repeat(60)).unwrap();
        assert!(!glob.matches(&format!("{}b", "a".repeat(20_000))));
        assert!(glob.matches(&"a".repeat(20_000)));
    }
}
