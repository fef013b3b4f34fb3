//! Metadata whose values have types: what formats of text get of it, and how a person writes it.

use crate::json::MetadataValue;
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{List, Value, ValueType};
use modelferry_core::plugin::MetadataForm;
use serde::de::{DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};
use std::fmt;

/// Bytes of a list above which no text is made of it: a tokenizer's tokens would fill a header that every program
/// reads whole.
const MAX_LIST_BYTES: usize = 1 << 16;

/// Makes metadata what a format of this form holds: in a format of text, values of other types are their JSON text, and
/// long lists are left out.
pub fn fit(metadata: &mut Vec<(String, Value)>, form: MetadataForm) -> Vec<Loss> {
    let mut losses = vec![];
    if form != MetadataForm::Text {
        return losses;
    }
    metadata.retain_mut(|(key, value)| {
        let (kept, detail) = match &*value {
            Value::Text(_) => return true,
            Value::Bytes(_) => (None, "text that is not UTF-8, not carried"),
            Value::List(list) if list.bytes().len() > MAX_LIST_BYTES => {
                (None, "a list too long to be made text of, not carried")
            }
            // Nothing in a value can fail to be JSON.
            other => {
                (serde_json::to_string(&MetadataValue(other)).ok(), "its type is lost, written as JSON text")
            }
        };
        losses.push(Loss::declared(LossKind::Metadata, &*key, detail));
        let is_kept = kept.is_some();
        *value = Value::Text(kept.unwrap_or_default());
        is_kept
    });
    losses
}

/// Key and type of `KEY:TYPE`, such as `general.file_type:u32` or `general.tags:[text]`; `None` for what names no type.
pub(crate) fn split_type(key: &str) -> Option<(&str, Wanted)> {
    let (key, name) = key.rsplit_once(':').filter(|(key, _)| !key.is_empty())?;
    let item = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let item_type = ValueType::from_name(item.unwrap_or(name))?;
    Some((key, Wanted { item_type, is_list: item.is_some() }))
}

/// The type that a value is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    item_type: ValueType,
    is_list: bool,
}

impl Wanted {
    /// That of a value that is there.
    pub(crate) fn of(value: &Value) -> Wanted {
        Wanted { item_type: value.item_type(), is_list: matches!(value, Value::List(_)) }
    }

    /// The type in words.
    pub(crate) fn name(self) -> String {
        let name = self.item_type.name();
        if self.is_list { format!("a JSON list of {name}") } else { name.to_owned() }
    }

    /// Reads a value as a person writes it: a list as JSON. `None` for what is no such value.
    pub(crate) fn parse(self, text: &str) -> Option<Value> {
        if !self.is_list {
            return self.item_type.parse(text);
        }
        let mut json = serde_json::Deserializer::from_str(text);
        let list = Items(self.item_type).deserialize(&mut json).ok()?;
        json.end().ok()?;
        Some(Value::List(list))
    }
}

/// A JSON list, packed item by item.
struct Items(ValueType);

impl<'de> DeserializeSeed<'de> for Items {
    type Value = List;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<List, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items {
    type Value = List;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List, A::Error> {
        let (mut bytes, mut len) = (vec![], 0);
        while let Some(item) = seq.next_element::<serde_json::Value>()? {
            let value = match (&item, self.0) {
                (serde_json::Value::String(text), ValueType::Text) => Some(Value::Text(text.clone())),
                (serde_json::Value::Bool(_), ValueType::Bool) => self.0.parse(&item.to_string()),
                (serde_json::Value::Number(_), kind)
                    if !matches!(kind, ValueType::Text | ValueType::Bool) =>
                {
                    kind.parse(&item.to_string())
                }
                _ => None,
            };
            value.ok_or_else(|| A::Error::custom("an item of another type"))?.pack(&mut bytes);
            len += 1;
        }
        List::new(self.0, len, bytes).ok_or_else(|| A::Error::custom("an item of another type"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: &str, text: &str) -> Option<Value> {
        split_type(&format!("key:{kind}")).unwrap().1.parse(text)
    }

    #[test]
    fn values_are_text_where_only_text_is_held() {
        let list = |n: usize| Value::List(List::new(ValueType::I32, n as u64, vec![1; 4 * n]).unwrap());
        let text = |text: &str| Value::Text(text.to_owned());
        let entries = [
            ("a", text("x")),
            ("b", Value::U32(7)),
            ("c", Value::F32(0.1)),
            ("d", Value::F64(f64::NAN)),
            ("e", list(2)),
            ("f", list(1 << 15)),
            ("g", Value::Bytes(vec![0xff].into())),
            ("h", Value::Bool(true)),
        ];
        let entries: Vec<(String, Value)> =
            entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let mut fitted = entries.clone();
        let losses = fit(&mut fitted, MetadataForm::Text);
        let found: Vec<(&str, String)> =
            fitted.iter().map(|(key, value)| (&**key, value.to_string())).collect();
        let expected = [
            ("a", "x"),
            ("b", "7"),
            ("c", "0.1"),
            ("d", "\"NaN\""),
            ("e", "[16843009,16843009]"),
            ("h", "true"),
        ];
        assert_eq!(found, expected.map(|(key, text)| (key, text.to_owned())));
        assert!(fitted.iter().all(|(_, value)| matches!(value, Value::Text(_))));
        let named: Vec<&str> = losses.iter().map(|loss| &*loss.subject).collect();
        assert_eq!(named, ["b", "c", "d", "e", "f", "g", "h"]);
        for form in [MetadataForm::Typed, MetadataForm::None] {
            let mut kept = entries.clone();
            assert!(fit(&mut kept, form).is_empty());
            assert_eq!(kept, entries);
        }
    }

    #[test]
    fn people_write_values() {
        assert_eq!(split_type("plain"), None);
        assert_eq!(split_type("a:b"), None);
        assert_eq!(split_type(":u32"), None);
        assert_eq!(split_type("a:b:u32").unwrap().0, "a:b");
        assert_eq!(parse("u8", "7"), Some(Value::U8(7)));
        assert_eq!(parse("u8", "-7"), None);
        let list = |kind, text| parse(kind, text).map(|value| (value.type_name(), value.to_string()));
        assert_eq!(list("[i32]", "[1, -2]"), Some(("[i32]".into(), "[1, -2]".into())));
        assert_eq!(list("[f32]", "[1, 2.5]"), Some(("[f32]".into(), "[1.0, 2.5]".into())));
        assert_eq!(list("[text]", r#"["a", "b\n"]"#), Some(("[text]".into(), r#"["a", "b\n"]"#.into())));
        assert_eq!(list("[bool]", "[true]"), Some(("[bool]".into(), "[true]".into())));
        for (kind, text) in [
            ("[u8]", "[256]"),
            ("[u8]", "[\"1\"]"),
            ("[text]", "[1]"),
            ("[u8]", "1"),
            ("[u8]", "[1] 2"),
            ("[u8]", "[[1]]"),
        ] {
            assert_eq!(parse(kind, text), None, "{text} as {kind}");
        }
    }
}
