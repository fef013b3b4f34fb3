//! Tar archives, uncompressed: where each member's bytes lie.
//!
//! The rules are those of POSIX.1-2017 (pax, "ustar Interchange Format" and "pax Header Block"), as far as Python's
//! `tarfile` writes them: ustar headers, extended headers for a long name or a large size, and base-256 sizes.

use crate::shown;
use modelferry_core::error::{Error, Result};
use modelferry_core::inputs::{Inputs, Window};
use modelferry_core::limits::Limits;
use std::collections::HashSet;
use std::ops::Range;

/// Bytes of one block.
pub const BLOCK_BYTES: usize = 512;

/// Archives are padded to a multiple of this (`tarfile.RECORDSIZE`).
const RECORD_BYTES: u64 = 20 * BLOCK_BYTES as u64;
/// An extended header is a few lines.
const EXTENDED_BYTES: u64 = 1 << 20;

const NAME: Range<usize> = 0..100;
const SIZE: Range<usize> = 124..136;
const SUM: Range<usize> = 148..156;
const KIND: usize = 156;
const PREFIX: Range<usize> = 345..500;

/// A file in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name, a name and never a path of ours.
    pub name: String,
    /// Its bytes.
    pub window: Window,
}

/// Whether a block is a header: its sum is right.
pub fn is_header(block: &[u8]) -> bool {
    <&[u8; BLOCK_BYTES]>::try_from(block).is_ok_and(|block| block[0] != 0 && sum_is_right(block))
}

/// The files of the archive that fills `window`. Folders and links are left out: they have no bytes.
///
/// Errors: [`Malformed`](modelferry_core::error::ErrorKind::Malformed) where the archive is cut short, has a header
/// whose sum is wrong, bytes behind its end, or two files of one name;
/// [`Unsupported`](modelferry_core::error::ErrorKind::Unsupported) for members of other programs' kinds;
/// [`Limit`](modelferry_core::error::ErrorKind::Limit) for the number of files ([`Limits::files`]).
pub fn read(inputs: &dyn Inputs, window: Window, limits: &Limits) -> Result<Vec<Member>> {
    walk(inputs, window, limits).map_err(|error| error.file(inputs.name(window.file)))
}

fn walk(inputs: &dyn Inputs, window: Window, limits: &Limits) -> Result<Vec<Member>> {
    let mut members: Vec<Member> = Vec::new();
    let mut names = HashSet::new();
    let mut extended = Extended::default();
    let mut at = 0;
    let mut n_headers = 0;
    loop {
        let place = window.at.saturating_add(at);
        let fault = |what: &'static str| Error::malformed(what).offset(place);
        if window.len.saturating_sub(at) < BLOCK_BYTES as u64 {
            return Err(fault("the archive is cut short"));
        }
        let mut block = [0; BLOCK_BYTES];
        inputs.read_at(window.file, place, &mut block)?;
        if block == [0; BLOCK_BYTES] {
            check_end(inputs, window, at)?;
            return Ok(members);
        }
        if !sum_is_right(&block) {
            return Err(fault("a member's header has the wrong sum"));
        }
        n_headers += 1;
        Limits::check("too many archive entries", n_headers, limits.files)
            .map_err(|error| error.offset(place))?;
        let size = number(&block[SIZE]).ok_or_else(|| fault("a member's size is no number"))?;
        let kind = block[KIND];
        let size = if is_file(kind) { extended.size.unwrap_or(size) } else { size };
        let data_at = at + BLOCK_BYTES as u64;
        let has_data = !matches!(kind, b'1'..=b'6');
        let len = if has_data { size } else { 0 };
        let left = window.len - data_at;
        if len > left {
            return Err(fault("a member runs past the archive")
                .expected(format_args!("at most {left} bytes"))
                .found(format_args!("{len} bytes")));
        }
        let data = Window { file: window.file, at: window.at + data_at, len };
        match kind {
            _ if is_file(kind) => {
                let name = extended.name.take().unwrap_or_else(|| name(&block));
                if !names.insert(name.clone()) {
                    return Err(fault("two members have one name").found(format_args!("{:?}", shown(&name))));
                }
                members.push(Member { name, window: data });
                extended = Extended::default();
            }
            b'1'..=b'6' => extended = Extended::default(),
            b'x' => {
                let text = inputs.read_vec(data.file, data.at, data.len, EXTENDED_BYTES)?;
                extended = Extended::parse(&text).ok_or_else(|| fault("an extended header is malformed"))?;
            }
            // About all members at once: comments.
            b'g' => {}
            other => {
                return Err(Error::unsupported("a member of the archive is of a kind that we do not know")
                    .offset(place)
                    .found(format_args!("{:?}", char::from(other))));
            }
        }
        // Blocks are whole: what does not fit is found at the next header.
        at = data_at.saturating_add(len.div_ceil(BLOCK_BYTES as u64).saturating_mul(BLOCK_BYTES as u64));
    }
}

/// Behind the last member there are zeros, to the end of the record.
fn check_end(inputs: &dyn Inputs, window: Window, at: u64) -> Result<()> {
    let place = window.at + at;
    let left = window.len - at;
    let zeros = match left <= RECORD_BYTES {
        true => inputs.read_vec(window.file, place, left, RECORD_BYTES)?.iter().all(|&byte| byte == 0),
        false => false,
    };
    match zeros {
        true => Ok(()),
        false => Err(Error::malformed("bytes follow the end of the archive").offset(place)),
    }
}

fn is_file(kind: u8) -> bool {
    matches!(kind, 0 | b'0' | b'7')
}

/// The sum of a header's bytes, its own field taken for spaces.
fn sum_is_right(block: &[u8; BLOCK_BYTES]) -> bool {
    let bytes = block.iter().enumerate();
    let sum: u64 = bytes.map(|(at, &byte)| if SUM.contains(&at) { 32 } else { byte.into() }).sum();
    number(&block[SUM]) == Some(sum)
}

/// A number in octal digits, or in binary where the first bit says so.
fn number(field: &[u8]) -> Option<u64> {
    let (&first, rest) = field.split_first()?;
    if first == 0x80 {
        return rest.iter().try_fold(0u64, |value, &byte| Some(value.checked_mul(256)? | u64::from(byte)));
    }
    let text = field.split(|&byte| byte == 0).next()?.trim_ascii();
    let digit = |value: u64, &byte: &u8| match byte {
        b'0'..=b'7' => Some(value.checked_mul(8)? | u64::from(byte - b'0')),
        _ => None,
    };
    if text.is_empty() { None } else { text.iter().try_fold(0, digit) }
}

fn name(block: &[u8; BLOCK_BYTES]) -> String {
    let text = |field: Range<usize>| {
        let bytes = block[field].split(|&byte| byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    };
    match text(PREFIX) {
        prefix if prefix.is_empty() || &block[257..262] != b"ustar" => text(NAME),
        prefix => format!("{prefix}/{}", text(NAME)),
    }
}

/// What an extended header says of the member behind it.
#[derive(Default)]
struct Extended {
    name: Option<String>,
    size: Option<u64>,
}

impl Extended {
    /// Lines of the form `LENGTH KEY=VALUE`.
    fn parse(mut text: &[u8]) -> Option<Extended> {
        let mut extended = Extended::default();
        while !text.is_empty() {
            let space = text.iter().position(|&byte| byte == b' ')?;
            let len: usize = std::str::from_utf8(&text[..space]).ok()?.parse().ok()?;
            let line = text.get(space + 1..len)?.strip_suffix(b"\n")?;
            let equals = line.iter().position(|&byte| byte == b'=')?;
            let value = std::str::from_utf8(&line[equals + 1..]).ok()?;
            match &line[..equals] {
                b"path" => extended.name = Some(value.to_owned()),
                b"size" => extended.size = Some(value.parse().ok()?),
                _ => {}
            }
            text = &text[len..];
        }
        Some(extended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{every_bit_flip_returns, every_prefix_fails, file, same_messages};
    use modelferry_core::inputs::FileId;

    fn header(name: &str, kind: u8, size: &[u8]) -> Vec<u8> {
        let mut block = vec![0; BLOCK_BYTES];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[SIZE][..size.len()].copy_from_slice(size);
        block[KIND] = kind;
        block[SUM].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[SUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }

    fn member(name: &str, kind: u8, data: &[u8]) -> Vec<u8> {
        let mut bytes = header(name, kind, format!("{:011o}", data.len()).as_bytes());
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        bytes
    }

    fn ended(members: &[Vec<u8>]) -> Vec<u8> {
        [members.concat(), vec![0; 2 * BLOCK_BYTES]].concat()
    }

    fn names(bytes: &[u8]) -> Result<Vec<String>> {
        let window = Window { file: FileId(0), at: 0, len: bytes.len() as u64 };
        let members = read(&file(bytes), window, &Limits::default())?;
        let shown = |member: Member| format!("{} {}+{}", member.name, member.window.at, member.window.len);
        Ok(members.into_iter().map(shown).collect())
    }

    #[test]
    fn files_are_listed_and_what_has_no_bytes_is_not() {
        let bytes = ended(&[
            member("folder/", b'5', b""),
            member("a", b'0', b"hello"),
            member("x", b'x', b"15 path=long/b\n13 mtime=1.5\n10 size=3\n"),
            member("short", b'0', b"123"),
            member("link", b'2', b""),
            member("g", b'g', b"9 a=bcde\n"),
            member("c", 0, &[7; 600]),
        ]);
        assert_eq!(names(&bytes).unwrap(), ["a 1024+5", "long/b 3072+3", "c 5632+600"]);
        assert!(is_header(&bytes[..BLOCK_BYTES]));
        assert!(!is_header(&bytes[1..=BLOCK_BYTES]));
        every_prefix_fails(&bytes[..bytes.len() - BLOCK_BYTES], |bytes| names(bytes).is_ok());
        every_bit_flip_returns(&bytes, |bytes| names(bytes).is_ok());
    }

    #[test]
    fn sizes_in_octal_and_in_binary() {
        assert_eq!(number(b"00000000017\0"), Some(15));
        assert_eq!(number(b"  17 \0\0"), Some(15));
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]), Some(2 << 32));
        assert_eq!(number(&[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        for bad in [&b""[..], b"\0\0", b"8", b"-1", b"\xff\xff", b"7777777777777777777777777"] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn archives_that_are_refused() {
        let one = || member("a", b'0', b"hello");
        let mut wrong = ended(&[one()]);
        wrong[0] = b'b';
        let cases = [
            (wrong, "m: byte 0: a member's header has the wrong sum"),
            (one(), "m: byte 1024: the archive is cut short"),
            (ended(&[one(), one()]), "m: byte 1024: two members have one name, found \"a\""),
            (
                ended(&[header("a", b'0', b"77777777777")]),
                "m: byte 0: a member runs past the archive, expected at most 1024 bytes, found 8589934591 bytes",
            ),
            (
                ended(&[header("a", b'0', &[0x80, 0, 0, 0, 0xff, 255, 255, 255, 255, 255, 255, 255])]),
                "m: byte 0: a member runs past the archive, expected at most 1024 bytes, found 18446744073709551615 bytes",
            ),
            (ended(&[header("a", b'0', b"x")]), "m: byte 0: a member's size is no number"),
            (
                ended(&[member("a", b'L', b"name")]),
                "m: byte 0: a member of the archive is of a kind that we do not know, found 'L'",
            ),
            (ended(&[member("x", b'x', b"99 path=a\n")]), "m: byte 0: an extended header is malformed"),
            (ended(&[member("x", b'x', b"0 path=a\n")]), "m: byte 0: an extended header is malformed"),
            ([ended(&[one()]), vec![1]].concat(), "m: byte 1024: bytes follow the end of the archive"),
            ([ended(&[one()]), vec![0; 10240]].concat(), "m: byte 1024: bytes follow the end of the archive"),
        ];
        same_messages(cases.map(|(bytes, expected)| (names(&bytes).unwrap_err().to_string(), expected)));
    }
}
