//! Mutations of text by its tokens: JSON, and the Python literals of npy headers.

use crate::random::Random;
use std::ops::Range;

/// Numbers that programs get wrong.
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "-0",
    "2",
    "3",
    "7",
    "8",
    "63",
    "64",
    "65",
    "127",
    "128",
    "255",
    "256",
    "1000",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551608",
    "18446744073709551615",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
    "1e3",
    "1.0",
    "0.5",
    "1e400",
    "-9223372036854775809",
    "00",
    "01",
    "0x10",
    "1_000",
    "3L",
    "NaN",
    "Infinity",
    "true",
    "null",
];

/// Strings that mean something somewhere.
const STRINGS: &[&str] = &[
    "",
    "a",
    "__metadata__",
    "format",
    "dtype",
    "shape",
    "data_offsets",
    "weight_map",
    "metadata",
    "total_size",
    "descr",
    "fortran_order",
    "F32",
    "BF16",
    "F4",
    "F6_E2M3",
    "F8_E4M3",
    "U8",
    "I64",
    "BOOL",
    "C64",
    "<f4",
    ">f8",
    "|V2",
    "<V1",
    "|O",
    "<f2",
    "|b1",
    ">c16",
    "V65535",
    "../x",
    "/etc/passwd",
    "x\\u0000",
    "\\ud800",
    "\\u0061",
    "é",
    "\\n",
    "model-00001-of-00002.safetensors",
    "a.safetensors",
    "model.safetensors.index.json",
    ".",
    "a//b",
    "C:x",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Word,
    Mark,
    Blank,
}

/// Cuts text into tokens; every byte is in one.
fn tokens(text: &[u8]) -> Vec<(Kind, Range<usize>)> {
    let mut tokens = vec![];
    let mut at = 0;
    let run = |from: usize, fits: &dyn Fn(u8) -> bool| {
        text[from..].iter().position(|&byte| !fits(byte)).map_or(text.len(), |len| from + len)
    };
    while at < text.len() {
        let (kind, end) = match text[at] {
            quote @ (b'"' | b'\'') => {
                let mut end = at + 1;
                while end < text.len() && text[end] != quote {
                    end += if text[end] == b'\\' { 2 } else { 1 };
                }
                (Kind::Text, (end + 1).min(text.len()))
            }
            b'-' | b'0'..=b'9' => {
                (Kind::Number, run(at + 1, &|b| b.is_ascii_alphanumeric() || b"+-._".contains(&b)))
            }
            byte if byte.is_ascii_alphabetic() => (Kind::Word, run(at + 1, &|b| b.is_ascii_alphanumeric())),
            byte if byte.is_ascii_whitespace() => (Kind::Blank, run(at + 1, &|b| b.is_ascii_whitespace())),
            _ => (Kind::Mark, at + 1),
        };
        tokens.push((kind, at..end));
        at = end;
    }
    tokens
}

/// From a token to the end of what it opens or, for a key, of its value.
fn whole(text: &[u8], tokens: &[(Kind, Range<usize>)], first: usize) -> Range<usize> {
    let mut depth = 0usize;
    let mut last = first;
    for (idx, (kind, range)) in tokens.iter().enumerate().skip(first) {
        last = idx;
        match (kind, text[range.start]) {
            (Kind::Mark, b'{' | b'[' | b'(') => depth += 1,
            (Kind::Mark, b'}' | b']' | b')') => depth = depth.saturating_sub(1),
            _ => {}
        }
        let next = tokens.get(idx + 1).map(|(_, range)| text[range.start]);
        let is_inside_pair = next == Some(b':') || (*kind, text[range.start]) == (Kind::Mark, b':');
        let is_blank =
            tokens.get(idx + 1).is_some_and(|(kind, _)| *kind == Kind::Blank) && text[range.start] == b':';
        if depth == 0 && !is_inside_pair && !is_blank && *kind != Kind::Blank {
            break;
        }
    }
    tokens[first].1.start..tokens[last].1.end
}

/// Changes one thing. Text without tokens stays as it is.
pub(crate) fn mutate(text: &mut Vec<u8>, random: &mut Random) {
    let all = tokens(text);
    let of = |kind: Kind| -> Vec<usize> { (0..all.len()).filter(|&idx| all[idx].0 == kind).collect() };
    if all.is_empty() {
        return;
    }
    let some = random.below(all.len());
    match random.below(13) {
        0..=2 => {
            let numbers = of(Kind::Number);
            if !numbers.is_empty() {
                let range = all[*random.pick(&numbers)].1.clone();
                let new = number(&text[range.clone()], random);
                text.splice(range, new);
            }
        }
        3 => {
            let texts = of(Kind::Text);
            if !texts.is_empty() {
                let range = all[*random.pick(&texts)].1.clone();
                let quote = text[range.start];
                let new = [&[quote][..], random.pick(STRINGS).as_bytes(), &[quote]].concat();
                text.splice(range, new);
            }
        }
        4 => {
            // One token in the place of another, which makes two keys, or two offsets, the same.
            let kind = all[some].0;
            let range = all[*random.pick(&of(kind))].1.clone();
            let new = text[all[some].1.clone()].to_vec();
            text.splice(range, new);
        }
        5 | 6 => {
            // A value or a pair, twice.
            let range = whole(text, &all, some);
            let copy = [b",", &text[range.clone()]].concat();
            text.splice(range.end..range.end, copy);
        }
        7 => {
            let mut range = whole(text, &all, some);
            if text.get(range.end) == Some(&b',') {
                range.end += 1;
            }
            text.drain(range);
        }
        8 => {
            // A value somewhere else.
            let range = whole(text, &all, some);
            let copy = text[range].to_vec();
            let to = whole(text, &all, random.below(all.len()));
            text.splice(to, copy);
        }
        9 => {
            text.drain(all[some].1.clone());
        }
        10 => {
            let blank = *random.pick(&[&b" "[..], b"\n", b"\t", b"\r\n", b"/**/", b"\0", b"\xef\xbb\xbf"]);
            text.splice(all[some].1.start..all[some].1.start, blank.iter().copied());
        }
        11 => {
            let (open, close) = *random.pick(&[(b"[", b"]"), (b"{", b"}"), (b"(", b")")]);
            let depth = *random.pick(&[1, 2, 64, 127, 128, 200, 5000]);
            let range = whole(text, &all, some);
            text.splice(range.end..range.end, close.repeat(depth));
            text.splice(range.start..range.start, open.repeat(depth));
        }
        _ => {
            // Many of one kind.
            let range = whole(text, &all, some);
            let copies = [b",", &text[range.clone()]].concat().repeat(*random.pick(&[2, 17, 70, 300]));
            if copies.len() < 1 << 16 {
                text.splice(range.end..range.end, copies);
            }
        }
    }
}

/// A known number, one near what is there, or one that is two, four or eight times it.
fn number(old: &[u8], random: &mut Random) -> Vec<u8> {
    let value = std::str::from_utf8(old).ok().and_then(|text| text.parse::<u64>().ok());
    let value = value.filter(|_| !random.one_in(3));
    match (value, random.below(6)) {
        (Some(value), 0) => value.wrapping_add(1).to_string().into_bytes(),
        (Some(value), 1) => value.wrapping_sub(1).to_string().into_bytes(),
        (Some(value), 2) => value.wrapping_mul(1 << random.below(4)).to_string().into_bytes(),
        (Some(value), 3) => (value / 2).to_string().into_bytes(),
        _ => random.pick(NUMBERS).as_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_cover_the_text() {
        let text = br#"{"a\"b": [1, -2.5e3], 'x':(3,), True} "#;
        let all = tokens(text);
        assert_eq!(all.iter().map(|(_, range)| range.len()).sum::<usize>(), text.len());
        let shown: Vec<&[u8]> = all.iter().map(|(_, range)| &text[range.clone()]).collect();
        assert_eq!(shown[1], br#""a\"b""#);
        assert!(shown.contains(&&b"-2.5e3"[..]));
    }

    #[test]
    fn a_key_comes_with_its_value() {
        let text = br#"{"a": [1, {"b":2}], "c":3}"#;
        let all = tokens(text);
        assert_eq!(&text[whole(text, &all, 1)], br#""a": [1, {"b":2}]"#);
        assert_eq!(&text[whole(text, &all, 0)], text);
    }

    #[test]
    fn every_mutation_returns() {
        for case in 0..5000 {
            let mut random = Random::of_case(1, "tokens", case);
            let mut text =
                br#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"__metadata__":{"k":"v"}}"#
                    .to_vec();
            for _ in 0..4 {
                mutate(&mut text, &mut random);
            }
        }
    }
}
