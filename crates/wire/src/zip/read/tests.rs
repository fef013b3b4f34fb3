use super::*;
use crate::testing::{Rng, every_bit_flip_returns, every_prefix_fails, file, same_messages};
use crate::zip::{Finished, Member, Padding, Placed, Writer};
use ::zip::write::SimpleFileOptions;
use ::zip::{ZipArchive, ZipWriter};
use modelferry_core::error::ErrorKind;
use std::io::{Cursor, Read, Write};

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    })
}

fn member(name: &str, len: u64) -> Member<'_> {
    Member { name, len, align: 64, padding: Padding::Alignment, local_extra: &[], central_extra: &[] }
}

/// Executes a layout in memory, filling the holes.
fn archive(members: &[(Member<'_>, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::default();
    let mut bytes = Vec::new();
    let mut holes = Vec::new();
    for (member, payload) in members {
        let Placed { header, header_at, data_at, crc_at, crc_in_directory } = writer.add(*member).unwrap();
        assert_eq!(bytes.len() as u64, header_at);
        bytes.extend_from_slice(&header);
        assert_eq!(bytes.len() as u64, data_at);
        assert!(data_at.is_multiple_of(member.align.max(1).into()));
        bytes.extend_from_slice(payload);
        holes.push((crc_at, crc_in_directory, crc32(payload)));
    }
    let Finished { at, bytes: directory } = writer.finish().unwrap();
    assert_eq!(bytes.len() as u64, at);
    bytes.extend_from_slice(&directory);
    for (local, central, crc) in holes {
        for hole in [local, at + central] {
            let hole = &mut bytes[hole as usize..][..4];
            assert_eq!(hole, [0; 4]);
            hole.copy_from_slice(&crc.to_le_bytes());
        }
    }
    bytes
}

fn whole(inputs: &dyn Inputs) -> Window {
    Window { file: inputs.root(), at: 0, len: inputs.len(inputs.root()) }
}

fn read(bytes: &[u8]) -> Result<Directory> {
    let inputs = file(bytes);
    Directory::read(&inputs, whole(&inputs), &Limits::default())
}

fn fault(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}

/// Two members: "a" with "hello", "b" empty. No padding, so that positions below are easy to follow:
/// headers at 0 and 36, directory at 67, end record at 161.
fn small() -> Vec<u8> {
    let plain = |name, len| Member { align: 1, ..member(name, len) };
    let bytes = archive(&[(plain("a", 5), b"hello"), (plain("b", 0), b"")]);
    assert_eq!(bytes.len(), 183);
    bytes
}

fn with(mut bytes: Vec<u8>, at: usize, value: &[u8]) -> Vec<u8> {
    bytes[at..at + value.len()].copy_from_slice(value);
    bytes
}

const CENTRAL_A: usize = 67;
const CENTRAL_B: usize = 67 + 47;
const END: usize = 161;

#[test]
fn our_archives_are_read_by_us_and_by_the_zip_crate() {
    for seed in 1..60 {
        let mut rng = Rng::new(seed);
        let names: Vec<String> = (0..rng.below(20))
            .map(|idx| format!("{}{idx}", ["x/", "é", "/../a\\", ""][rng.below(4) as usize]))
            .collect();
        let payloads: Vec<Vec<u8>> =
            names.iter().map(|_| (0..rng.below(300)).map(|_| rng.next() as u8).collect()).collect();
        let field = [b'F', b'M', 2, 0, 1, 2];
        let members: Vec<_> = (names.iter().zip(&payloads))
            .map(|(name, payload)| {
                let align = [0, 1, 2, 8, 64, 4096][rng.below(6) as usize];
                let padding = if rng.below(2) > 0 { Padding::Torch } else { Padding::Alignment };
                let local_extra = &field[..6 * rng.below(2) as usize];
                let central_extra = &field[..6 * rng.below(2) as usize];
                let member =
                    Member { name, len: payload.len() as u64, align, padding, local_extra, central_extra };
                (member, &**payload)
            })
            .collect();
        let bytes = archive(&members);

        let directory = read(&bytes).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(directory.entries.len(), names.len(), "seed {seed}");
        for (entry, (member, payload)) in directory.entries.iter().zip(&members) {
            assert_eq!(
                (&*entry.name, entry.method, entry.crc32),
                (member.name, Method::Stored, crc32(payload))
            );
            let data = directory.data(entry);
            assert_eq!(&bytes[data.at as usize..][..data.len as usize], *payload, "seed {seed}");
            assert_eq!(&*entry.extra, member.central_extra);
        }
        directory.refuse_case_variants().unwrap();

        let mut oracle =
            ZipArchive::new(Cursor::new(&bytes)).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(oracle.len(), names.len(), "seed {seed}");
        for (idx, (member, payload)) in members.iter().enumerate() {
            let mut entry = oracle.by_index(idx).unwrap();
            assert_eq!(entry.name().unwrap(), member.name, "seed {seed}");
            let mut found = Vec::new();
            entry.read_to_end(&mut found).unwrap();
            assert_eq!(found, *payload, "seed {seed}");
        }
    }
}

#[test]
fn the_zip_crates_archives_are_read() {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default();
    let payload = vec![7; 10_000];
    for (name, options) in [
        ("deflated", options.compression_method(CompressionMethod::Deflated)),
        ("stored", options.compression_method(CompressionMethod::Stored).with_alignment(64)),
        ("large", options.compression_method(CompressionMethod::Stored).large_file(true)),
    ] {
        writer.start_file(name, options).unwrap();
        writer.write_all(&payload).unwrap();
    }
    writer.add_directory("folder/", options).unwrap();
    writer.set_comment("a comment").unwrap();
    let bytes = writer.finish().unwrap().into_inner();
    let directory = read(&bytes).unwrap();
    let methods: Vec<_> = directory.entries.iter().map(|e| (&*e.name, e.method, e.len)).collect();
    let (stored, deflated) = (Method::Stored, Method::Deflated);
    assert_eq!(
        methods,
        [
            ("deflated", deflated, 10_000),
            ("stored", stored, 10_000),
            ("large", stored, 10_000),
            ("folder/", stored, 0)
        ]
    );
    let mut oracle = ZipArchive::new(Cursor::new(&bytes)).unwrap();
    for (idx, entry) in directory.entries.iter().enumerate() {
        let found = oracle.by_index(idx).unwrap();
        assert_eq!(found.data_start(), Some(entry.data_at));
        assert_eq!((found.compressed_size(), found.crc32()), (entry.compressed_len, entry.crc32));
    }
}

#[test]
fn a_window_of_a_larger_file_is_read_with_positions_in_the_file() {
    let inputs = file([&[9; 100], &*small(), &[9; 50]].concat());
    let window = Window { file: inputs.root(), at: 100, len: 183 };
    let directory = Directory::read(&inputs, window, &Limits::default()).unwrap();
    assert_eq!((directory.entries[0].header_at, directory.entries[0].data_at), (100, 131));
    assert_eq!((directory.entries[1].header_at, directory.entries[1].data_at), (136, 167));
    let past = Window { len: 300, ..window };
    assert_eq!(
        Directory::read(&inputs, past, &Limits::default()).unwrap_err().to_string(),
        "m: byte 100: an archive ends past the file, expected at most 333 bytes, found 300 bytes"
    );
}

#[test]
fn an_empty_archive_has_no_entries() {
    let bytes = archive(&[]);
    assert_eq!(bytes.len(), 22);
    assert_eq!(read(&bytes).unwrap().entries, []);
}

/// An archive as torch 2.15 writes it (reference/pytorch.md 1.2): descriptors, zeros in local headers, padding,
/// zip64 end records always.
fn torch_like() -> Vec<u8> {
    let payload = [5u8; 40];
    let mut bytes = Vec::new();
    bytes.extend_from_slice(b"PK\x03\x04\0\0\x08\x08");
    bytes.extend_from_slice(&[0; 18]);
    bytes.extend_from_slice(&[3, 0, 27 + 4, 0]);
    bytes.extend_from_slice(b"a/0FB");
    bytes.extend_from_slice(&[27, 0]);
    bytes.extend_from_slice(&[b'Z'; 27]);
    assert_eq!(bytes.len(), 64);
    bytes.extend_from_slice(&payload);
    bytes.extend_from_slice(b"PK\x07\x08");
    bytes.extend_from_slice(&crc32(&payload).to_le_bytes());
    bytes.extend_from_slice(&[40, 0, 0, 0, 40, 0, 0, 0]);
    let at = bytes.len() as u64;
    bytes.extend_from_slice(b"PK\x01\x02\0\0\0\0\x08\x08\0\0\0\0\0\0");
    bytes.extend_from_slice(&crc32(&payload).to_le_bytes());
    bytes.extend_from_slice(&[40, 0, 0, 0, 40, 0, 0, 0, 3, 0]);
    bytes.extend_from_slice(&[0; 16]);
    bytes.extend_from_slice(b"a/0");
    let end = bytes.len() as u64;
    bytes.extend_from_slice(b"PK\x06\x06");
    bytes.extend_from_slice(&44u64.to_le_bytes());
    bytes.extend_from_slice(&[0; 12]);
    for value in [1, 1, end - at, at] {
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    bytes.extend_from_slice(b"PK\x06\x07\0\0\0\0");
    bytes.extend_from_slice(&end.to_le_bytes());
    bytes.extend_from_slice(&[1, 0, 0, 0]);
    bytes.extend_from_slice(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    bytes.extend_from_slice(&(end as u32 - at as u32).to_le_bytes());
    bytes.extend_from_slice(&(at as u32).to_le_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes
}

#[test]
fn archives_as_torch_writes_them_are_read() {
    let bytes = torch_like();
    let directory = read(&bytes).unwrap();
    let entry = &directory.entries[0];
    assert_eq!((&*entry.name, entry.data_at, entry.len), ("a/0", 64, 40));
    assert_eq!(entry.crc32, crc32(&[5; 40]));
    every_prefix_fails(&bytes, |bytes| read(bytes).is_ok());
    every_bit_flip_returns(&bytes, |bytes| read(bytes).is_ok());
}

#[test]
#[rustfmt::skip]
fn zip64_end_records_must_agree() {
    let bytes = torch_like();
    let end64 = bytes.len() - 22 - 20 - 56;
    let (locator, end) = (end64 + 56, end64 + 76);
    // Unknown fields of the short record are taken from the long one.
    read(&with(with(bytes.clone(), end + 8, &[0xff; 4]), end + 12, &[0xff; 8])).unwrap();
    let f = |at, value: &[u8]| fault(&with(bytes.clone(), at, value));
    assert_eq!(f(end + 10, &[2]), "m: byte 245: the two end records disagree about entry counts, expected 1, found 2");
    assert_eq!(f(end + 12, &[2]), "m: byte 245: the two end records disagree about directory lengths, expected 49, found 2");
    assert_eq!(f(end + 16, &[2]), "m: byte 245: the two end records disagree about directory offsets, expected 120, found 2");
    assert_eq!(f(end + 4, &[2]), "m: byte 245: the two end records disagree about disk numbers, expected 0, found 2");
    assert_eq!(f(locator + 8, &[0xff; 8]),
        "m: byte 225: the zip64 locator points past the archive, expected at most 169, found 18446744073709551615");
    assert_eq!(f(locator + 8, &[0]), "m: byte 0: the archive does not begin the file, found 169 bytes before it");
    assert_eq!(f(end64, b"Q"), "m: byte 169: the zip64 end record is not where its locator says");
    assert_eq!(f(end64 + 4, &[45]), "m: byte 169: the zip64 end record does not end at its locator, expected 44 bytes, found 45 bytes");
    assert_eq!(f(end64 + 4, &[0xff; 8]),
        "m: byte 169: the zip64 end record does not end at its locator, expected 44 bytes, found 18446744073709551615 bytes");
    assert_eq!(f(locator + 16, &[2]), "m: byte 225: the archive is split over several disks");
    assert_eq!(f(end64 + 16, &[2]), "m: byte 169: the archive is split over several disks");
    let huge = with(with(bytes.clone(), end64 + 48, &[0xff; 8]), end + 16, &[0xff; 4]);
    assert_eq!(fault(&huge), "m: byte 169: the directory runs past the archive, found 49");
    let count = with(with(bytes.clone(), end64 + 24, &[0xff; 16]), end + 8, &[0xff; 4]);
    assert_eq!(fault(&count), "m: byte 120: too many archive entries, expected at most 16777216, found 18446744073709551615");
    let count = with(with(bytes.clone(), end64 + 24, &[2, 0, 0, 0, 0, 0, 0, 0, 2]), end + 8, &[2, 0, 2]);
    assert_eq!(fault(&count), "m: byte 120: the directory is too short for its entries, expected 2 entries, found 49 bytes");
}

#[test]
#[rustfmt::skip]
fn every_rule_has_its_error() {
    let f = |at: usize, value: &[u8]| fault(&with(small(), at, value));
    let cases = [
        (fault(b""), "m: byte 0: this is no zip archive: it has no end record"),
        (fault(&small()[..90]), "m: byte 90: the archive has no end record: the file is cut short"),
        (fault(&[&small(), &b"xx"[..]].concat()),
         "m: byte 183: bytes follow the end of the archive, expected 0 bytes of comment, found 2 bytes"),
        (f(END + 20, &[3]), "m: byte 183: the archive's comment is cut short, expected 3 bytes of comment, found 0 bytes"),
        (fault(&[&b"#!/bin/sh\n"[..], &small()].concat()), "m: byte 0: the archive does not begin the file, found 10 bytes before it"),
        (f(END + 4, &[1]), "m: byte 161: the archive is split over several disks"),
        (f(CENTRAL_A + 34, &[1]), "m: byte 67: the archive is split over several disks"),
        (f(END + 8, &[1]), "m: byte 161: the archive is split over several disks"),
        (f(END + 8, &[1, 0, 1]), "m: byte 114: the directory has more than its entries, expected 1 entries, found 47 bytes more"),
        (f(END + 8, &[3, 0, 3]), "m: byte 67: the directory is too short for its entries, expected 3 entries, found 94 bytes"),
        (f(END + 16, &[66]), "m: byte 0: the archive does not begin the file, found 1 bytes before it"),
        (f(END + 16, &[68]), "m: byte 161: the directory runs past its end record, expected an end at 161, found 162"),
        (f(END + 12, &[93]), "m: byte 160: bytes lie between the directory and its end record, found 1 bytes"),
        (f(END + 12, &[0xff; 8]), "m: byte 161: the directory runs past its end record, expected an end at 161, found 8589934590"),
        (f(CENTRAL_A, b"Q"), "m: byte 67: no directory entry where one should begin"),
        (f(CENTRAL_B + 32, &[1]), "m: byte 114: a directory entry runs past the directory"),
        (f(CENTRAL_A + 46, b"\0"), "m: byte 67: an entry's name contains a NUL, found \"\\0\""),
        (fault(&with(with(small(), CENTRAL_A + 9, &[8]), CENTRAL_A + 46, &[0xff])),
         "m: byte 67: an entry's name is not UTF-8, found \"\u{fffd}\""),
        (f(CENTRAL_A + 8, &[1]), "m: byte 67: entry \"a\" is encrypted"),
        (f(CENTRAL_A + 8, &[0x20]), "m: byte 67: entry \"a\" is a patch of another file"),
        (f(CENTRAL_A + 10, &[12]),
         "m: byte 67: entry \"a\" is stored by a method we do not read, expected Stored or Deflated, found Bzip2 (12)"),
        (f(CENTRAL_A + 24, &[6]), "m: byte 67: entry \"a\": it is stored, and yet its two lengths differ, expected 6 bytes, found 5 bytes"),
        (f(CENTRAL_A + 20, &[0xff; 8]), "m: byte 67: entry \"a\": its zip64 field is missing or too short"),
        (fault(&with(with(small(), CENTRAL_A + 10, &[8]), CENTRAL_A + 24, &[0, 1, 1])),
         "m: byte 67: entry \"a\" claims to expand too much, expected at most 1032 times, found 5 bytes to 65792"),
        (f(CENTRAL_B + 42, &[35]), "m: byte 35: entry \"b\": it overlaps another entry, expected a start after the end of \"a\" at 36, found 35"),
        (f(CENTRAL_B + 42, &[0]), "m: byte 0: entry \"b\": it overlaps another entry, expected a start after the end of \"a\" at 36, found 0"),
        (f(CENTRAL_A + 42, &[1]), "m: byte 0: the archive does not begin the file, found 1 bytes before it"),
        (f(CENTRAL_B + 42, &[38]), "m: byte 38: entry \"b\": its local header lies past the archive's data, expected at most 37, found 38"),
        (f(CENTRAL_B + 42, &[0xff, 0xff, 0xff, 0x7f]),
         "m: byte 2147483647: entry \"b\": its local header lies past the archive's data, expected at most 37, found 2147483647"),
        (f(0, b"Q"), "m: byte 0: entry \"a\": no local header where the directory says"),
        (f(36 + 28, &[1]), "m: byte 36: entry \"b\": its local header runs into the directory"),
        (f(30, b"c"), "m: byte 0: entry \"a\": its local header has another name, expected \"a\", found \"c\""),
        (f(6, &[1]), "m: byte 0: entry \"a\": its local header says it is encrypted, its directory entry does not"),
        (f(8, &[8]), "m: byte 0: entry \"a\": its local header has another method, expected Stored, found Deflated"),
        (f(14, &[0]), "m: byte 0: entry \"a\": its local header has another CRC-32, expected 3610a686, found 3610a600"),
        (f(18, &[0]), "m: byte 0: entry \"a\": its local header has another compressed length, expected 5, found 0"),
        (f(22, &[9]), "m: byte 0: entry \"a\": its local header has another length, expected 5, found 9"),
        (f(18, &[0xff; 8]), "m: byte 0: entry \"a\": its zip64 field is missing or too short"),
        (fault(&with(with(small(), CENTRAL_B + 46, b"a"), 36 + 30, b"a")), "m: byte 36: entry \"a\": its name appears twice"),
        (fault(&with(with(with(small(), CENTRAL_A + 20, &[40, 0, 0, 0, 40]), 18, &[40]), 22, &[40])),
         "m: byte 31: entry \"a\": its data runs into the directory, expected at most 36 bytes, found 40 bytes"),
        (fault(&with(with(with(small(), CENTRAL_A + 20, &[20, 0, 0, 0, 20]), 18, &[20]), 22, &[20])),
         "m: byte 36: entry \"b\": it overlaps another entry, expected a start after the end of \"a\" at 51, found 36"),
    ];
    same_messages(cases);
    // Zeros, and nothing else, are allowed where a descriptor follows.
    let deferred = with(with(small(), 6, &[8]), 14, &[0; 12]);
    read(&deferred).unwrap();
    assert!(read(&with(deferred, 18, &[4])).is_err());
}

#[test]
fn repeated_zip64_fields_are_refused() {
    let twice = [1, 0, 0, 0, 1, 0, 0, 0];
    let bytes = archive(&[(Member { central_extra: &twice, ..member("a", 1) }, b"x")]);
    assert_eq!(fault(&bytes), "m: byte 65: entry \"a\": it has two zip64 fields");
}

#[test]
fn two_entries_over_the_same_bytes_are_refused() {
    // David Fifield's overlapping bomb in small: two directory entries, one local header.
    let mut bytes = archive(&[(member("a", 5), b"hello")]);
    let at = bytes.len() - 22 - 47;
    let entry = bytes[at..at + 47].to_vec();
    bytes.splice(at..at, entry);
    let end = bytes.len() - 22;
    let bytes = with(with(bytes, end + 8, &[2, 0, 2]), end + 12, &[94]);
    assert!(fault(&bytes).starts_with("m: byte 0: entry \"a\": it overlaps another entry"));
}

#[test]
fn case_variants_are_the_callers_question() {
    let directory =
        read(&archive(&[(member("a/data.pkl", 0), b""), (member("a/DATA.pkl", 0), b"")])).unwrap();
    assert_eq!(
        directory.refuse_case_variants().unwrap_err().to_string(),
        "byte 64: entry \"a/DATA.pkl\": its name differs from another's in case only, found \"a/data.pkl\" too"
    );
}

#[test]
fn names_without_the_flag_are_code_page_437() {
    assert_eq!(decode_name(&[0x80, b'x', 0xe1, 0xff], 0).unwrap(), "Çxß\u{a0}");
    assert_eq!(CP437.chars().count(), 128);
    assert_eq!(decode_name("é".as_bytes(), FLAG_UTF8).unwrap(), "é");
}

#[test]
fn limits_hold() {
    let inputs = file(small());
    let check = |change: fn(&mut Limits), expected: &str| {
        let mut limits = Limits::default();
        change(&mut limits);
        let error = Directory::read(&inputs, whole(&inputs), &limits).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Limit, expected));
    };
    check(
        |l| l.header_bytes = 93,
        "m: byte 67: the archive's directory is too long, expected at most 93, found 94",
    );
    check(|l| l.tensors = 1, "m: byte 67: too many archive entries, expected at most 1, found 2");
    check(|l| l.name_bytes = 0, "m: byte 67: an entry's name is too long, expected at most 0, found 1");
}

#[test]
fn damage_never_panics() {
    let bytes = archive(&[(member("abc", 5), b"hello"), (member("é", 1), b"x")]);
    every_prefix_fails(&bytes, |bytes| read(bytes).is_ok());
    every_bit_flip_returns(&bytes, |bytes| read(bytes).is_ok());
    for seed in 1..3000 {
        let mut rng = Rng::new(seed);
        let mut bytes = bytes.clone();
        for _ in 0..1 + rng.below(4) {
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] = [0, 1, 0x7f, 0xff, rng.next() as u8][rng.below(5) as usize];
        }
        let _ = read(&bytes);
    }
}

/// Inputs whose payload is a hole: archives larger than memory, tested without one.
struct Sparse {
    parts: Vec<(u64, Vec<u8>)>,
    len: u64,
}

impl Inputs for Sparse {
    fn root(&self) -> FileId {
        FileId(0)
    }
    fn open(&self, relative: &str) -> Result<FileId> {
        Err(Error::malformed("no such file").file(relative))
    }
    fn list(&self, _: &str) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
    fn name(&self, _: FileId) -> String {
        "m".to_owned()
    }
    fn len(&self, _: FileId) -> u64 {
        self.len
    }
    fn read_at(&self, _: FileId, offset: u64, out: &mut [u8]) -> Result<()> {
        assert!(offset + out.len() as u64 <= self.len);
        out.fill(0);
        for (at, bytes) in &self.parts {
            for (idx, &byte) in bytes.iter().enumerate() {
                if let Some(out) =
                    (at + idx as u64).checked_sub(offset).and_then(|idx| out.get_mut(idx as usize))
                {
                    *out = byte;
                }
            }
        }
        Ok(())
    }
}

#[test]
fn zip64_is_used_where_needed_and_comes_back() {
    let sizes = [0xffff_fffe, 0, 0xffff_ffff, 5 << 30, 3];
    let names: Vec<String> = (0..sizes.len()).map(|idx| format!("t{idx}")).collect();
    let mut writer = Writer::default();
    let mut sparse = Sparse { parts: Vec::new(), len: 0 };
    let mut placed = Vec::new();
    for (name, len) in names.iter().zip(sizes) {
        let place = writer.add(member(name, len)).unwrap();
        assert_eq!(place.data_at % 64, 0);
        sparse.parts.push((place.header_at, place.header.clone()));
        placed.push(place);
    }
    let Finished { at, bytes } = writer.finish().unwrap();
    sparse.len = at + bytes.len() as u64;
    assert_eq!(placed[2].header[4..6], [45, 0]);
    assert_eq!(placed[0].header[4..6], [20, 0]);
    sparse.parts.push((at, bytes));
    let directory = Directory::read(&sparse, whole(&sparse), &Limits::default()).unwrap();
    for ((entry, place), len) in directory.entries.iter().zip(&placed).zip(sizes) {
        assert_eq!((entry.len, entry.compressed_len, entry.data_at), (len, len, place.data_at));
        assert!(entry.extra.is_empty());
    }
}

#[test]
fn more_entries_than_sixteen_bits_count() {
    let n = 70_000;
    let mut writer = Writer::default();
    let mut bytes = Vec::new();
    for idx in 0..n {
        let name = idx.to_string();
        bytes.extend(writer.add(Member { align: 1, ..member(&name, 0) }).unwrap().header);
    }
    bytes.extend(writer.finish().unwrap().bytes);
    assert_eq!(read(&bytes).unwrap().entries.len(), n);
    assert_eq!(ZipArchive::new(Cursor::new(&bytes)).unwrap().len(), n);
}

#[test]
fn what_zip_cannot_hold_is_refused() {
    let add = |member| Writer::default().add(member).unwrap_err().to_string();
    assert_eq!(add(member("a\0b", 0)), "a zip archive cannot hold entry \"a\\0b\": its name contains a NUL");
    let long = "n".repeat(65536);
    assert!(
        add(member(&long, 0))
            .ends_with("its name is too long, expected at most 65535 bytes, found 65536 bytes")
    );
    assert!(add(member("a", u64::MAX)).ends_with("the archive is too large"));
    let extra = vec![0; 65536];
    assert!(add(Member { local_extra: &extra, ..member("a", 0) }).ends_with("its extra fields are too long"));
    assert!(
        add(Member { central_extra: &extra, ..member("a", 0) }).ends_with("its extra fields are too long")
    );
    let mut writer = Writer::default();
    writer.add(member("a", u64::MAX - 100)).unwrap();
    assert!(writer.clone().finish().is_err());
    assert!(writer.add(member("b", 50)).is_err());
}
