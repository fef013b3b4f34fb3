//! Text that came from a file, on its way to a person.

use std::fmt::{self, Write};

/// Writes text with its control characters escaped: what a file says may not move a terminal's cursor or fake a
/// second line.
pub(crate) struct OneLine<'a, 'f>(pub(crate) &'a mut fmt::Formatter<'f>);

impl Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut plain = 0;
        for (at, control) in text.char_indices().filter(|(_, c)| c.is_control()) {
            self.0.write_str(&text[plain..at])?;
            write!(self.0, "{}", control.escape_default())?;
            plain = at + control.len_utf8();
        }
        self.0.write_str(&text[plain..])
    }
}

/// At most this many characters of a name are shown.
const NAME_CHARS: usize = 600;

/// A name, cut where nobody would read on.
pub(crate) fn shown(name: &str) -> &str {
    match name.char_indices().nth(NAME_CHARS) {
        Some((end, _)) => &name[..end],
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use crate::error::Error;

    #[test]
    fn control_characters_are_escaped() {
        let error = Error::malformed("bad\u{1b}[2J").found("a\nb").tensor("x".repeat(5000));
        let text = error.to_string();
        assert!(!text.contains(char::is_control), "{text:?}");
        assert!(text.contains("bad\\u{1b}[2J, found a\\nb") && text.len() < 1000);
    }
}
