//! Metadata values, with the types that their formats give them.

use crate::expr::Blob;
use std::fmt;

macro_rules! numbers {
    ($($variant:ident $rust:ty, $name:literal;)*) => {
        /// The type of a metadata value, or of the items of a list.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "the variants of numbers are the types' own names")]
        pub enum ValueType {
            /// Text, UTF-8 or not.
            Text,
            /// A truth value.
            Bool,
            $($variant,)*
        }

        impl ValueType {
            /// Every type.
            pub const ALL: &[ValueType] = &[ValueType::Text, ValueType::Bool, $(ValueType::$variant,)*];

            /// Its name in `--json` and for `edit`.
            pub fn name(self) -> &'static str {
                match self {
                    ValueType::Text => "text",
                    ValueType::Bool => "bool",
                    $(ValueType::$variant => $name,)*
                }
            }

            /// Bytes of one packed item; `None` for text, whose items differ in length.
            pub fn width(self) -> Option<usize> {
                match self {
                    ValueType::Text => None,
                    ValueType::Bool => Some(1),
                    $(ValueType::$variant => Some(size_of::<$rust>()),)*
                }
            }

            /// The value of one packed item, and what follows it. `None` where the bytes end too early.
            pub fn unpack(self, bytes: &[u8]) -> Option<(Value, &[u8])> {
                match self {
                    ValueType::Text => {
                        let (text, rest) = split_text(bytes)?;
                        Some((Value::text(text.to_vec()), rest))
                    }
                    ValueType::Bool => bytes.split_first().map(|(byte, rest)| (Value::Bool(*byte != 0), rest)),
                    $(ValueType::$variant => {
                        let (item, rest) = bytes.split_first_chunk()?;
                        Some((Value::$variant(<$rust>::from_le_bytes(*item)), rest))
                    })*
                }
            }

            /// Reads a single value as a person writes it; `None` for what is no value of this type.
            pub fn parse(self, text: &str) -> Option<Value> {
                match self {
                    ValueType::Text => Some(Value::Text(text.to_owned())),
                    ValueType::Bool => text.parse().ok().map(Value::Bool),
                    $(ValueType::$variant => text.parse().ok().map(Value::$variant),)*
                }
            }
        }

        /// A metadata value with the type its format gave it. Floats are equal if their bits are.
        #[derive(Clone, Debug)]
        #[allow(missing_docs, reason = "the variants of numbers are the types' own names")]
        pub enum Value {
            /// UTF-8 text.
            Text(String),
            /// Text that is not UTF-8.
            Bytes(Blob),
            /// A truth value.
            Bool(bool),
            $($variant($rust),)*
            /// Several values of one type.
            List(List),
        }

        impl Value {
            /// Its type; of a list, that of the items.
            pub fn item_type(&self) -> ValueType {
                match self {
                    Value::Text(_) | Value::Bytes(_) => ValueType::Text,
                    Value::Bool(_) => ValueType::Bool,
                    $(Value::$variant(_) => ValueType::$variant,)*
                    Value::List(list) => list.item_type,
                }
            }

            /// Appends the value in the packed form of [`List`]; a list's items without their number.
            pub fn pack(&self, out: &mut Vec<u8>) {
                match self {
                    Value::Text(text) => pack_text(text.as_bytes(), out),
                    Value::Bytes(text) => pack_text(text, out),
                    Value::Bool(value) => out.push((*value).into()),
                    $(Value::$variant(value) => out.extend_from_slice(&value.to_le_bytes()),)*
                    Value::List(list) => out.extend_from_slice(&list.bytes),
                }
            }

            fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Value::Text(text) => f.write_str(text),
                    Value::Bytes(text) => f.write_str(&String::from_utf8_lossy(text)),
                    Value::Bool(value) => write!(f, "{value}"),
                    $(Value::$variant(value) => write!(f, "{value:?}"),)*
                    Value::List(list) => list.write(f),
                }
            }
        }
    };
}

numbers! {
    U8 u8, "u8";
    I8 i8, "i8";
    U16 u16, "u16";
    I16 i16, "i16";
    U32 u32, "u32";
    I32 i32, "i32";
    U64 u64, "u64";
    I64 i64, "i64";
    F32 f32, "f32";
    F64 f64, "f64";
}

impl ValueType {
    /// The type whose [`name`](ValueType::name) is `name`.
    pub fn from_name(name: &str) -> Option<ValueType> {
        ValueType::ALL.iter().copied().find(|known| known.name() == name)
    }
}

impl Value {
    /// Text, whatever it is encoded in.
    pub fn text(bytes: Vec<u8>) -> Value {
        String::from_utf8(bytes).map_or_else(|error| Value::Bytes(error.into_bytes().into()), Value::Text)
    }

    /// A whole number that is not negative, of any width.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Value::U8(n) => Some(n.into()),
            Value::U16(n) => Some(n.into()),
            Value::U32(n) => Some(n.into()),
            Value::U64(n) => Some(n),
            Value::I8(n) => n.try_into().ok(),
            Value::I16(n) => n.try_into().ok(),
            Value::I32(n) => n.try_into().ok(),
            Value::I64(n) => n.try_into().ok(),
            _ => None,
        }
    }

    /// Its type in words: `u32`, or `[u32]` for a list of such.
    pub fn type_name(&self) -> String {
        match self {
            Value::List(list) => format!("[{}]", list.item_type.name()),
            other => other.item_type().name().to_owned(),
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Text(a), Value::Text(b)) => a == b,
            (Value::List(a), Value::List(b)) => a == b,
            (Value::List(_), _) | (_, Value::List(_)) => false,
            _ => {
                let packed = |value: &Value| {
                    let mut bytes = vec![];
                    value.pack(&mut bytes);
                    bytes
                };
                self.item_type() == other.item_type() && packed(self) == packed(other)
            }
        }
    }
}

/// As a person reads it, long lists cut. May hold anything that the file's text holds.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f)
    }
}

/// Several values of one type, packed: a tokenizer has hundreds of thousands of them, which no tree of values should
/// be made for.
///
/// Packed are numbers little-endian, truth values as a byte each, texts as their length in a little-endian `u64` and
/// their bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct List {
    item_type: ValueType,
    len: u64,
    bytes: Blob,
}

impl List {
    /// A list of `len` packed items; `None` where the bytes are not exactly as many.
    pub fn new(item_type: ValueType, len: u64, bytes: impl Into<Blob>) -> Option<List> {
        let bytes = bytes.into();
        let fits = match item_type.width() {
            Some(width) => len.checked_mul(width as u64) == Some(bytes.len() as u64),
            None => {
                let mut rest = &bytes[..];
                let mut n = 0;
                while n < len
                    && let Some((_, after)) = split_text(rest)
                {
                    (rest, n) = (after, n + 1);
                }
                n == len && rest.is_empty()
            }
        };
        fits.then_some(List { item_type, len, bytes })
    }

    /// A list of values of one type; `None` where one is of another, or a list itself.
    pub fn of(item_type: ValueType, items: &[Value]) -> Option<List> {
        let mut bytes = vec![];
        for item in items {
            if item.item_type() != item_type || matches!(item, Value::List(_)) {
                return None;
            }
            item.pack(&mut bytes);
        }
        List::new(item_type, items.len() as u64, bytes)
    }

    /// The type of its items.
    pub fn item_type(&self) -> ValueType {
        self.item_type
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The packed items.
    pub fn bytes(&self) -> &Blob {
        &self.bytes
    }

    /// The items in order, one made at a time.
    pub fn items(&self) -> impl Iterator<Item = Value> + '_ {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (item, after) = self.item_type.unpack(rest)?;
            rest = after;
            Some(item)
        })
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Items that a person reads.
        const SHOWN: usize = 8;
        f.write_str("[")?;
        for (idx, item) in self.items().take(SHOWN).enumerate() {
            let comma = if idx > 0 { ", " } else { "" };
            match item {
                Value::Text(_) | Value::Bytes(_) => write!(f, "{comma}{:?}", item.to_string())?,
                number => write!(f, "{comma}{number}")?,
            }
        }
        match self.len {
            n if n > SHOWN as u64 => write!(f, ", … {n} in all]"),
            _ => f.write_str("]"),
        }
    }
}

/// Short however long the list is.
impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f)
    }
}

fn pack_text(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text);
}

fn split_text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_names_and_widths() {
        for &kind in ValueType::ALL {
            assert_eq!(ValueType::from_name(kind.name()), Some(kind));
        }
        assert_eq!(ValueType::from_name("list"), None);
        assert_eq!((ValueType::Text.width(), ValueType::F64.width()), (None, Some(8)));
    }

    #[test]
    fn values_are_read_and_packed() {
        for (kind, text) in [("u8", "255"), ("i64", "-9"), ("f32", "1e-5"), ("bool", "true"), ("text", "é")]
        {
            let kind = ValueType::from_name(kind).unwrap();
            let value = kind.parse(text).unwrap();
            let mut packed = vec![];
            value.pack(&mut packed);
            assert_eq!(kind.unpack(&packed), Some((value.clone(), &[][..])));
            assert_eq!(value.to_string(), text);
            assert_eq!(kind.unpack(&packed[1..]).filter(|(found, _)| *found == value), None);
        }
        for (kind, text) in [("u8", "256"), ("u32", "-1"), ("bool", "1"), ("i32", "1.0")] {
            assert_eq!(ValueType::from_name(kind).unwrap().parse(text), None, "{text} as {kind}");
        }
        assert_eq!(Value::text(b"a".to_vec()), Value::Text("a".into()));
        assert!(matches!(Value::text(vec![0xff]), Value::Bytes(_)));
    }

    #[test]
    fn floats_are_equal_by_their_bits() {
        assert_eq!(Value::F32(f32::NAN), Value::F32(f32::NAN));
        assert_ne!(Value::F64(0.0), Value::F64(-0.0));
        assert_ne!(Value::U32(1), Value::I32(1));
        assert_ne!(Value::U8(1), Value::Bool(true));
    }

    #[test]
    fn lists_hold_what_they_say() {
        let words = ["one", "", "größe"].map(|word| Value::Text(word.to_owned()));
        let list = List::of(ValueType::Text, &words).unwrap();
        assert_eq!(list.items().collect::<Vec<_>>(), words);
        assert_eq!(Value::List(list.clone()).type_name(), "[text]");
        assert_eq!(Value::List(list.clone()).to_string(), r#"["one", "", "größe"]"#);
        assert!(List::new(ValueType::Text, 3, list.bytes().clone()).is_some());
        assert!(List::new(ValueType::Text, 2, list.bytes().clone()).is_none());
        assert!(List::new(ValueType::Text, 4, list.bytes().clone()).is_none());
        assert!(List::new(ValueType::U32, 2, vec![0; 7]).is_none());
        assert!(List::new(ValueType::U64, 1 << 61, vec![0; 8]).is_none());
        assert!(List::of(ValueType::U8, &[Value::I8(1)]).is_none());
        let many = List::new(ValueType::U16, 1000, vec![0; 2000]).unwrap();
        assert_eq!(format!("{many:?}"), "[0, 0, 0, 0, 0, 0, 0, 0, … 1000 in all]");
    }
}
