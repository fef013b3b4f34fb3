//! JSON as Python's `json` reads it, walked without a tree: where each field of an object lies in the text.
//!
//! What differs from the standard: `NaN`, `Infinity` and `-Infinity` are numbers, and strings may hold lone
//! surrogates. Control characters in strings are refused, as Python refuses them.

use modelferry_core::error::{Error, Result};
use modelferry_core::limits::Limits;
use std::ops::Range;

/// One field of an object, met when its value has ended.
pub(crate) struct Field<'a> {
    /// The text of the keys around it, outermost first, still in quotes; none for a field of the outermost object.
    pub(crate) parents: &'a [&'a str],
    /// The text of its key, in quotes.
    pub(crate) key: &'a str,
    /// Where its value lies in the text.
    pub(crate) value: Range<usize>,
}

/// Walks a document and shows `visit` the fields of its objects, as far as only objects are around them.
///
/// Errors: [`Malformed`](modelferry_core::error::ErrorKind::Malformed) with the byte for what Python would refuse, and
/// for a document that is no object; [`Limit`](modelferry_core::error::ErrorKind::Limit) for nesting.
pub(crate) fn walk(text: &str, limits: &Limits, visit: &mut dyn FnMut(Field<'_>)) -> Result<()> {
    let mut scanner = Scanner { bytes: text.as_bytes(), at: 0 };
    let result = scanner.document(text, limits, visit);
    result.map_err(|error| error.offset(scanner.at as u64))
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A container that has begun.
struct Open<'a> {
    is_object: bool,
    /// The key whose value it is, where its field is shown.
    key: Option<&'a str>,
    begin: usize,
}

impl Scanner<'_> {
    fn document<'t>(
        &mut self,
        text: &'t str,
        limits: &Limits,
        visit: &mut dyn FnMut(Field<'_>),
    ) -> Result<()> {
        let mut open: Vec<Open<'t>> = vec![];
        // Keys of the objects that are open, as long as nothing but objects is.
        let mut parents: Vec<&'t str> = vec![];
        let mut is_shown = true;
        let mut key: Option<&'t str> = None;
        self.space();
        if self.peek() != Some(b'{') {
            return Err(self.unexpected("an object"));
        }
        loop {
            // A value begins here.
            let begin = self.at;
            let mut has_ended = true;
            match self.peek() {
                Some(bracket @ (b'{' | b'[')) => {
                    Limits::check(
                        "the document is nested too deeply",
                        open.len() as u64 + 1,
                        limits.depth as u64,
                    )?;
                    self.at += 1;
                    self.space();
                    let is_object = bracket == b'{';
                    let is_empty = self.peek() == Some(if is_object { b'}' } else { b']' });
                    if is_empty {
                        self.at += 1;
                    } else {
                        if let (Some(key), true) = (key, is_shown && is_object) {
                            parents.push(key);
                        }
                        open.push(Open { is_object, key: key.filter(|_| is_shown), begin });
                        is_shown &= is_object;
                        has_ended = false;
                    }
                }
                Some(b'"') => self.string()?,
                _ => self.scalar()?,
            }
            if has_ended {
                if let (Some(key), true) = (key, is_shown) {
                    visit(Field { parents: &parents, key, value: begin..self.at });
                }
                if !self.after_value(&mut open, &mut parents, &mut is_shown, visit)? {
                    return Ok(());
                }
            }
            key = match open.last() {
                Some(Open { is_object: true, .. }) => {
                    let begin = self.at;
                    if self.peek() != Some(b'"') {
                        return Err(self.unexpected("a key in quotes"));
                    }
                    self.string()?;
                    let key = &text[begin..self.at];
                    self.space();
                    self.eat(b':', "a colon")?;
                    self.space();
                    Some(key)
                }
                _ => None,
            };
        }
    }

    /// What stands behind a value: commas and ends. Says whether another value follows.
    fn after_value<'t>(
        &mut self,
        open: &mut Vec<Open<'t>>,
        parents: &mut Vec<&'t str>,
        is_shown: &mut bool,
        visit: &mut dyn FnMut(Field<'_>),
    ) -> Result<bool> {
        loop {
            self.space();
            let Some(container) = open.last() else {
                return if self.at == self.bytes.len() { Ok(false) } else { Err(self.unexpected("the end")) };
            };
            let (end, expected) =
                if container.is_object { (b'}', "a comma or }") } else { (b']', "a comma or ]") };
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    self.space();
                    return Ok(true);
                }
                Some(byte) if byte == end => self.at += 1,
                _ => return Err(self.unexpected(expected)),
            }
            let Some(container) = open.pop() else { return Ok(false) };
            *is_shown = open.iter().all(|around| around.is_object);
            if let Some(key) = container.key {
                if container.is_object {
                    parents.pop();
                }
                visit(Field { parents, key, value: container.begin..self.at });
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8, expected: &'static str) -> Result<()> {
        if self.peek() != Some(byte) {
            return Err(self.unexpected(expected));
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<()> {
        self.eat(b'"', "a string")?;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    match self.peek() {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
                        Some(b'u') => {
                            self.at += 1;
                            for _ in 0..4 {
                                if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                                    return Err(self.unexpected("four hexadecimal digits"));
                                }
                                self.at += 1;
                            }
                        }
                        _ => return Err(self.unexpected("an escape")),
                    }
                }
                Some(0..=0x1f) => return Err(Error::malformed("a control character in a string")),
                Some(_) => self.at += 1,
                None => return Err(self.unexpected("the end of a string")),
            }
        }
    }

    fn scalar(&mut self) -> Result<()> {
        const WORDS: [&[u8]; 6] = [b"true", b"false", b"null", b"NaN", b"Infinity", b"-Infinity"];
        let rest = &self.bytes[self.at..];
        if let Some(word) = WORDS.into_iter().find(|word| rest.starts_with(word)) {
            self.at += word.len();
            return Ok(());
        }
        let digits =
            |at: usize| rest[at.min(rest.len())..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let mut len = usize::from(rest.first() == Some(&b'-'));
        let whole = match rest.get(len) {
            // Nothing may follow a leading zero.
            Some(b'0') => 1,
            _ => digits(len),
        };
        if whole == 0 {
            return Err(self.unexpected("a value"));
        }
        len += whole;
        if rest.get(len) == Some(&b'.') && digits(len + 1) > 0 {
            len += 1 + digits(len + 1);
        }
        if matches!(rest.get(len), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(rest.get(len + 1), Some(b'+' | b'-')));
            let exponent = digits(len + 1 + sign);
            len += if exponent > 0 { 1 + sign + exponent } else { 0 };
        }
        self.at += len;
        Ok(())
    }

    fn unexpected(&self, expected: &'static str) -> Error {
        let error = Error::malformed("not JSON").expected(expected);
        let rest = &self.bytes[self.at.min(self.bytes.len())..];
        match String::from_utf8_lossy(&rest[..rest.len().min(16)]).chars().next() {
            Some(c) => error.found(format_args!("{c:?}")),
            None => error.found("the end"),
        }
    }
}

/// A string as Python's `json` writes it by default: ASCII only.
pub(crate) fn put_string(out: &mut String, text: &str) {
    out.push('"');
    text.chars().for_each(|c| put_char(out, c));
    out.push('"');
}

/// One character of such a string.
pub(crate) fn put_char(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        ' '..='~' => out.push(c),
        c => c.encode_utf16(&mut [0; 2]).iter().for_each(|&unit| put_unit(out, unit)),
    }
}

/// One UTF-16 unit, as an escape.
pub(crate) fn put_unit(out: &mut String, unit: u16) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push_str("\\u");
    for shift in [12, 8, 4, 0] {
        out.push(char::from(HEX[usize::from(unit >> shift & 15)]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Result<Vec<String>> {
        let mut found = vec![];
        walk(text, &Limits::default(), &mut |field| {
            found.push(format!("{:?} {}={}", field.parents, field.key, &text[field.value]));
        })?;
        Ok(found)
    }

    #[test]
    fn fields_are_found_where_they_lie() {
        let text = r#" {"a": -0.5e+3, "b":{"c" : [1,{"no":2}], "d":{}},"e":[], "f":"\u00e9\"}"} "#;
        let expected = [
            r#"[] "a"=-0.5e+3"#,
            r#"["\"b\""] "c"=[1,{"no":2}]"#,
            r#"["\"b\""] "d"={}"#,
            r#"[] "b"={"c" : [1,{"no":2}], "d":{}}"#,
            r#"[] "e"=[]"#,
            r#"[] "f"="\u00e9\"}""#,
        ];
        assert_eq!(fields(text).unwrap(), expected);
        assert_eq!(fields("{}").unwrap(), [""; 0]);
    }

    #[test]
    fn python_reads_what_we_read() {
        // Each checked with json.loads of CPython 3.11.
        for text in [r#"{"a":NaN,"b":[Infinity,-Infinity]}"#, r#"{"a":1,"a":2}"#, r#"{"\ud800":"\udfff"}"#] {
            assert!(fields(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "[]",
            "1",
            "{",
            "{]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":01}",
            "{\"a\":1.}",
            "{\"a\":.5}",
            "{\"a\":+1}",
            "{\"a\":1e}",
            "{'a':1}",
            "{\"a\":nan}",
            "{\"a\":1}x",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12\"}",
            "{\"a\":\"\n\"}",
            "{\"a\":[1,]}",
            "{\"a\":[1}}",
            "{\"a\":tru}",
            "\u{feff}{}",
            "{\"a\":\"",
            "{\"a\":-}",
        ] {
            assert!(fields(text).is_err(), "{text}");
        }
        let error = fields("{\"a\": 1, b}").unwrap_err();
        assert_eq!(error.to_string(), "byte 9: not JSON, expected a key in quotes, found 'b'");
    }

    #[test]
    fn nesting_has_an_end() {
        let deep = |n: usize| format!("{{\"a\":{}1{}}}", "[".repeat(n), "]".repeat(n));
        assert!(fields(&deep(100)).is_ok());
        assert_eq!(fields(&deep(100_000)).unwrap_err().kind(), modelferry_core::error::ErrorKind::Limit);
    }
}
