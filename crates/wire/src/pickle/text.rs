//! The forms in which pickles write text and numbers.

use modelferry_core::expr::Blob;
use modelferry_core::tree::Object;
use std::borrow::Cow;

/// Digits of the longest decimal number that is read, as in CPython since 3.11: turning them into bits takes time that
/// grows with the square.
pub(super) const MAX_DIGITS: usize = 4300;

/// Text as Python 3 writes it: UTF-8 in which surrogates may stand alone. `None` for anything else.
pub(super) fn unicode(bytes: Cow<'_, [u8]>) -> Option<Object> {
    let bytes = match bytes {
        Cow::Borrowed(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => return Some(Object::Text(text.into())),
            Err(_) => bytes.to_vec(),
        },
        Cow::Owned(bytes) => match String::from_utf8(bytes) {
            Ok(text) => return Some(Object::Text(text.into())),
            Err(error) => error.into_bytes(),
        },
    };
    let mut rest = &bytes[..];
    while let Err(error) = std::str::from_utf8(rest) {
        rest = match &rest[error.valid_up_to()..] {
            [0xed, 0xa0..=0xbf, 0x80..=0xbf, rest @ ..] => rest,
            _ => return None,
        };
    }
    Some(Object::LooseText(bytes.into()))
}

/// The `str` of Python 2, which was bytes and mostly meant text.
pub(super) fn str2(bytes: Cow<'_, [u8]>) -> Object {
    match std::str::from_utf8(&bytes) {
        Ok(text) => Object::Text(text.into()),
        Err(_) => Object::Bytes(Blob::from(&bytes[..])),
    }
}

/// Undoes the escapes of a quoted string of Python 2, as CPython's `codecs.escape_decode` does. `None` without the
/// quotes, and for an escape that is cut short.
pub(super) fn unquote(line: &[u8]) -> Option<Cow<'_, [u8]>> {
    let inner = match line {
        [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => inner,
        _ => return None,
    };
    if !inner.contains(&b'\\') {
        return Some(Cow::Borrowed(inner));
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'\\' {
            out.push(*first);
            continue;
        }
        let [code, after @ ..] = rest else { return None };
        rest = after;
        match code {
            b'\n' => {}
            b'\\' | b'\'' | b'"' => out.push(*code),
            b'a' => out.push(7),
            b'b' => out.push(8),
            b't' => out.push(b'\t'),
            b'n' => out.push(b'\n'),
            b'v' => out.push(11),
            b'f' => out.push(12),
            b'r' => out.push(b'\r'),
            b'x' => {
                let (value, after) = hex(rest, 2)?;
                out.push(value as u8);
                rest = after;
            }
            b'0'..=b'7' => {
                let mut value = u32::from(code - b'0');
                for _ in 0..2 {
                    let [digit @ b'0'..=b'7', after @ ..] = rest else { break };
                    value = value * 8 + u32::from(digit - b'0');
                    rest = after;
                }
                out.push(value as u8);
            }
            _ => out.extend_from_slice(&[b'\\', *code]),
        }
    }
    Some(Cow::Owned(out))
}

/// Undoes `raw-unicode-escape`: Latin-1 with `\u` and `\U`, backslashes counted in pairs as CPython does. Gives UTF-8
/// in which surrogates may stand alone; `None` for an escape that is no character.
pub(super) fn raw_unicode(line: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(line.len());
    let mut rest = line;
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'\\', [kind @ (b'u' | b'U'), after @ ..]) => {
                let (value, after) = hex(after, if *kind == b'u' { 4 } else { 8 })?;
                rest = after;
                match value {
                    // What a surrogate would be in UTF-8, were it allowed there.
                    0xd800..0xe000 => {
                        out.extend([0xed, 0x80 | (value >> 6 & 0x3f) as u8, 0x80 | (value & 0x3f) as u8]);
                    }
                    _ => push_char(&mut out, char::from_u32(value)?),
                }
            }
            (b'\\', [next, after @ ..]) => {
                out.push(b'\\');
                push_char(&mut out, char::from(*next));
                rest = after;
            }
            _ => push_char(&mut out, char::from(*first)),
        }
    }
    Some(out)
}

fn push_char(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn hex(text: &[u8], n_digits: usize) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_at_checked(n_digits)?;
    let value =
        digits.iter().try_fold(0, |value, &digit| Some(value << 4 | char::from(digit).to_digit(16)?))?;
    Some((value, rest))
}

/// A whole number in two's complement, least significant byte first.
pub(super) fn int_from_le(bytes: &[u8]) -> Object {
    let bytes = shortest(bytes);
    let fill = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
    let mut wide = [fill; 8];
    match wide.get_mut(..bytes.len()) {
        Some(low) => {
            low.copy_from_slice(bytes);
            Object::Int(i64::from_le_bytes(wide))
        }
        None => Object::BigInt(bytes.into()),
    }
}

/// Without the bytes that only repeat the sign.
pub(super) fn shortest(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., before, last] = bytes {
        if !matches!((before & 0x80, last), (0, 0) | (0x80, 0xff)) {
            break;
        }
        bytes = &bytes[..rest.len() + 1];
    }
    bytes
}

/// A whole number in decimal. `None` for anything else, and for more than [`MAX_DIGITS`].
pub(super) fn int_from_decimal(text: &[u8]) -> Option<Object> {
    if let Some(small) = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()) {
        return Some(Object::Int(small));
    }
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut bytes: Vec<u8> = Vec::new();
    for digit in digits {
        let mut carry = u32::from(digit - b'0');
        for byte in &mut bytes {
            carry += u32::from(*byte) * 10;
            *byte = carry as u8;
            carry >>= 8;
        }
        if carry > 0 {
            bytes.push(carry as u8);
        }
    }
    bytes.push(0);
    if negative {
        let mut carry = true;
        for byte in &mut bytes {
            (*byte, carry) = (!*byte).overflowing_add(carry.into());
        }
    }
    Some(int_from_le(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_the_shortest_form() {
        let cases: [(&[u8], i64); 8] = [
            (&[], 0),
            (&[0xff], -1),
            (&[0xff, 0], 255),
            (&[0xff, 0xff, 0xff], -1),
            (&[0x80], -128),
            (&[0, 0, 0, 0, 0, 0, 0, 0x80], i64::MIN),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0], i64::MAX),
            (&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1),
        ];
        for (bytes, value) in cases {
            assert_eq!(int_from_le(bytes), Object::Int(value), "{bytes:?}");
        }
        let big = [0, 0, 0, 0, 0, 0, 0, 0x80, 0];
        assert_eq!(int_from_le(&big), Object::BigInt(big.into()));
    }

    #[test]
    fn decimals_of_any_length() {
        assert_eq!(int_from_decimal(b"-9223372036854775808"), Some(Object::Int(i64::MIN)));
        assert_eq!(int_from_decimal(b"0"), Some(Object::Int(0)));
        // 0x1950a86a20f9469cfc6c, torch's magic number, and its negative.
        let magic = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
        assert_eq!(int_from_decimal(b"119547037146038801333356"), Some(Object::BigInt(magic.into())));
        let minus: Vec<u8> = [0x94].into_iter().chain(magic[1..].iter().map(|byte| !byte)).collect();
        assert_eq!(int_from_decimal(b"-119547037146038801333356"), Some(Object::BigInt(minus.into())));
        assert_eq!(int_from_decimal(b""), None);
        assert_eq!(int_from_decimal(b"-"), None);
        assert_eq!(int_from_decimal(b"0x10"), None);
        assert_eq!(int_from_decimal(&[b'1'; MAX_DIGITS + 1]), None);
        assert!(int_from_decimal(&[b'1'; MAX_DIGITS]).is_some());
    }

    #[test]
    fn escapes() {
        let unquoted = |line: &'static [u8]| unquote(line).map(Cow::into_owned);
        assert_eq!(unquoted(b"'a\\'\\x41\\101\\n\\q\\0'"), Some(b"a'AA\n\\q\0".to_vec()));
        assert_eq!(unquoted(b"\"it's\""), Some(b"it's".to_vec()));
        assert_eq!(unquoted(b"'a"), None);
        assert_eq!(unquoted(b"'"), None);
        assert_eq!(unquoted(b"'\\x4'"), None);
        assert_eq!(unquoted(b"'\\'"), None);
        assert_eq!(raw_unicode(b"a\xe9\\u20ac\\U0001f600\\\\u20"), Some("aé€😀\\\\u20".into()));
        assert_eq!(raw_unicode(b"\\ud800"), Some(vec![0xed, 0xa0, 0x80]));
        assert_eq!(raw_unicode(b"\\U00110000"), None);
        assert_eq!(raw_unicode(b"\\u12"), None);
        assert_eq!(raw_unicode(b"\\"), Some(b"\\".to_vec()));
    }

    #[test]
    fn surrogates_make_text_loose_and_other_faults_make_it_none() {
        let of = |bytes: &'static [u8]| unicode(Cow::Borrowed(bytes));
        assert_eq!(of("é".as_bytes()), Some(Object::Text("é".into())));
        assert_eq!(of(b"a\xed\xa0\x80b"), Some(Object::LooseText(b"a\xed\xa0\x80b"[..].into())));
        assert_eq!(of(b"a\xed\xa0"), None);
        assert_eq!(of(b"\xff"), None);
        assert_eq!(str2(Cow::Borrowed(b"\xff")), Object::Bytes(b"\xff"[..].into()));
    }
}
