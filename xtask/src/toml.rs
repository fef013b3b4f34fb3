//! As much of TOML as deny.toml and our manifests use: tables, strings, booleans, and arrays of strings and of inline
//! tables. Anything else is an error, so that nothing is skipped in silence.

use serde_json::{Map, Value};
use std::iter::Peekable;
use std::str::Chars;

/// Parses a document into nested objects.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    let mut root = Map::new();
    let mut table: Vec<String> = vec![];
    let mut chars = text.chars().peekable();
    loop {
        skip_blank(&mut chars);
        match chars.peek() {
            None => return Ok(Value::Object(root)),
            Some('[') => {
                chars.next();
                let name: String = chars.by_ref().take_while(|c| *c != ']').collect();
                table = name.split('.').map(|part| part.trim().to_owned()).collect();
                open(&mut root, &table)?;
            }
            Some(_) => {
                let (key, value) = pair(&mut chars)?;
                let into = open(&mut root, &table)?;
                if into.insert(key.clone(), value).is_some() {
                    return Err(format!("{key} is given twice"));
                }
            }
        }
    }
}

fn open<'a>(
    root: &'a mut Map<String, Value>,
    table: &[String],
) -> Result<&'a mut Map<String, Value>, String> {
    let mut at = root;
    for name in table {
        let inner = at.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
        at = inner.as_object_mut().ok_or_else(|| format!("{name} is not a table"))?;
    }
    Ok(at)
}

fn pair(chars: &mut Peekable<Chars<'_>>) -> Result<(String, Value), String> {
    let key: String = std::iter::from_fn(|| chars.next_if(|c| *c != '=' && *c != '\n')).collect();
    let key = key.trim().trim_matches('"').to_owned();
    if chars.next() != Some('=') || key.is_empty() {
        return Err(format!("{key:?} has no value"));
    }
    Ok((key, value(chars)?))
}

fn value(chars: &mut Peekable<Chars<'_>>) -> Result<Value, String> {
    skip_blank(chars);
    match chars.next() {
        Some('"') => string(chars).map(Value::String),
        Some('[') => {
            let mut items = vec![];
            while !skip_separator(chars, ']')? {
                items.push(value(chars)?);
            }
            Ok(Value::Array(items))
        }
        Some('{') => {
            let mut items = Map::new();
            while !skip_separator(chars, '}')? {
                let (key, value) = pair(chars)?;
                items.insert(key, value);
            }
            Ok(Value::Object(items))
        }
        Some(first) => {
            let rest = std::iter::from_fn(|| chars.next_if(|c| c.is_alphanumeric() || "._-".contains(*c)));
            let word: String = std::iter::once(first).chain(rest).collect();
            match &*word {
                "true" => Ok(Value::Bool(true)),
                "false" => Ok(Value::Bool(false)),
                _ => word.parse::<f64>().map(Value::from).map_err(|_| format!("{word:?} is not understood")),
            }
        }
        None => Err("the file ends in a value".to_owned()),
    }
}

fn string(chars: &mut Peekable<Chars<'_>>) -> Result<String, String> {
    let mut text = String::new();
    loop {
        match chars.next() {
            Some('"') => return Ok(text),
            Some('\\') => text.extend(chars.next()),
            Some('\n') | None => return Err(format!("the string {text:?} has no end")),
            Some(c) => text.push(c),
        }
    }
}

/// Passes blanks and commas; whether `end` was there, which is passed too.
fn skip_separator(chars: &mut Peekable<Chars<'_>>, end: char) -> Result<bool, String> {
    skip_blank(chars);
    while chars.next_if_eq(&',').is_some() {
        skip_blank(chars);
    }
    match chars.peek() {
        None => Err(format!("{end} is missing")),
        Some(_) => Ok(chars.next_if_eq(&end).is_some()),
    }
}

/// Passes blanks and comments.
fn skip_blank(chars: &mut Peekable<Chars<'_>>) {
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek() != Some(&'#') {
            return;
        }
        while chars.next_if(|c| *c != '\n').is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn our_subset_is_read() {
        let text = "# c\n[a]\nb = [\n  \"x\", # c\n  { k = \"v # no comment\", w = true },\n]\n[a.c]\nn = 1.5\n\"d\" = \"\\\"\"\n";
        let expected =
            json!({"a": {"b": ["x", {"k": "v # no comment", "w": true}], "c": {"n": 1.5, "d": "\""}}});
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn nothing_is_skipped() {
        for wrong in ["a", "a = ", "a = b", "a = [\"x\"", "a = \"x", "a = 1\na = 2"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
