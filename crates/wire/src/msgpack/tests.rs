use super::*;
use crate::testing::{Rng, every_bit_flip_returns, every_prefix_fails, file, same_messages};
use modelferry_core::error::Result;
use modelferry_core::inputs::Inputs;
use modelferry_core::limits::Limits;
use modelferry_core::tree::{Object, ObjectId, Tree};

fn read_with(bytes: &[u8], limits: &Limits) -> Result<Document> {
    let inputs = file(bytes);
    parse(&inputs, inputs.root(), limits)
}

fn read(bytes: &[u8]) -> Result<Document> {
    read_with(bytes, &Limits::default())
}

/// The document as text, as Python would nearly print it.
fn shown(tree: &Tree, id: ObjectId) -> String {
    let list = |members: &[ObjectId]| {
        members.iter().map(|&member| shown(tree, member)).collect::<Vec<_>>().join(", ")
    };
    match &tree[id] {
        Object::Text(text) => format!("{text:?}"),
        Object::BigInt(bytes) => format!("{bytes:?}"),
        Object::Tensor(idx) => format!("array {idx}"),
        Object::List(members) => format!("[{}]", list(members)),
        Object::Tuple(members) => format!("({})", list(members)),
        Object::Dict(entries) => {
            let entries =
                entries.iter().map(|&(key, value)| format!("{}: {}", shown(tree, key), shown(tree, value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        Object::Instance(instance) => {
            format!("{}{}", tree.key_text(instance.callable), shown(tree, instance.args))
        }
        _ => tree.key_text(id),
    }
}

fn text_of(bytes: &[u8]) -> String {
    let document = read(bytes).unwrap();
    shown(&document.tree, document.tree.root().unwrap())
}

/// An array as flax writes it, of bytes counted up from 1.
fn array(dtype: DType, shape: &[u64]) -> Vec<u8> {
    let len = dtype.packed_len(shape.iter().product()).unwrap();
    let mut out = Emitter::default();
    out.array(dtype, shape, len).unwrap();
    out.raw(&(1..=len).map(|byte| byte as u8).collect::<Vec<_>>());
    out.take()
}

/// A dictionary of what are values already.
fn map(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Emitter::default();
    out.map(entries.len() as u64).unwrap();
    for (key, value) in entries {
        out.text(key).unwrap();
        out.raw(value);
    }
    out.take()
}

/// An array of f32 in parts, with this value under each key.
fn chunked(marker: &[u8], shape: &[u8], chunks: &[u8]) -> Vec<u8> {
    map(&[(CHUNKED, marker), ("shape", shape), ("chunks", chunks)])
}

#[test]
fn every_form_of_a_value_is_read() {
    // From the specification: each first byte once.
    for (bytes, expected) in [
        (&b"\x00"[..], "0"),
        (b"\x7f", "127"),
        (b"\x80", "{}"),
        (b"\x82\xa1a\x01\x02\xa1b", "{\"a\": 1, 2: \"b\"}"),
        (b"\x90", "[]"),
        (b"\x92\x01\x91\x02", "[1, [2]]"),
        (b"\xa0", "\"\""),
        (b"\xa3\xe2\x82\xac", "\"\u{20ac}\""),
        (b"\xc0", "None"),
        (b"\xc2", "False"),
        (b"\xc3", "True"),
        (b"\xc4\x02\xff\x00", "\\xff\\x00"),
        (b"\xc5\x00\x01a", "a"),
        (b"\xc6\x00\x00\x00\x01a", "a"),
        (b"\xc7\x03\x2aabc", "msgpack.ExtType(42, abc)"),
        (b"\xc8\x00\x01\x80a", "msgpack.ExtType(-128, a)"),
        (b"\xc9\x00\x00\x00\x00\x7f", "msgpack.ExtType(127, )"),
        (b"\xca\x3f\xc0\x00\x00", "1.5"),
        (b"\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00", "1.5"),
        (b"\xcc\xff", "255"),
        (b"\xcd\xff\xff", "65535"),
        (b"\xce\xff\xff\xff\xff", "4294967295"),
        (b"\xcf\x00\x20\x00\x00\x00\x00\x00\x01", "9007199254740993"),
        (b"\xcf\x80\x00\x00\x00\x00\x00\x00\x00", "[0, 0, 0, 0, 0, 0, 0, 128, 0]"),
        (b"\xd0\x80", "-128"),
        (b"\xd1\x80\x00", "-32768"),
        (b"\xd2\x80\x00\x00\x00", "-2147483648"),
        (b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00", "-9223372036854775808"),
        (b"\xd4\x05a", "msgpack.ExtType(5, a)"),
        (b"\xd5\x05ab", "msgpack.ExtType(5, ab)"),
        (b"\xd6\xffabcd", "msgpack.ExtType(-1, abcd)"),
        (b"\xd7\x05abcdefgh", "msgpack.ExtType(5, abcdefgh)"),
        (b"\xd8\x05abcdefghijklmnop", "msgpack.ExtType(5, abcdefghijklmnop)"),
        (b"\xd9\x01a", "\"a\""),
        (b"\xda\x00\x01a", "\"a\""),
        (b"\xdb\x00\x00\x00\x01a", "\"a\""),
        (b"\xdc\x00\x01\x01", "[1]"),
        (b"\xdd\x00\x00\x00\x01\x01", "[1]"),
        (b"\xde\x00\x01\xa1a\x01", "{\"a\": 1}"),
        (b"\xdf\x00\x00\x00\x01\xa1a\x01", "{\"a\": 1}"),
        (b"\xe0", "-32"),
        (b"\xff", "-1"),
    ] {
        assert_eq!(text_of(bytes), expected, "{bytes:x?}");
    }
    assert_eq!(
        text_of(b"\xc7\x13\x02\x92\xcb\x3f\xf8\0\0\0\0\0\0\xcb\xc0\0\0\0\0\0\0\0"),
        "builtins.complex(1.5, -2)"
    );
    assert_eq!(text_of(b"\xd6\x02\x92\xcc\xff\xff"), "builtins.complex(255, -1)");
}

#[test]
fn numbers_are_written_in_their_shortest_form() {
    let written = |value: i64| {
        let mut out = Emitter::default();
        out.int(value);
        out.take()
    };
    for (value, expected) in [
        (0i64, &b"\x00"[..]),
        (127, b"\x7f"),
        (128, b"\xcc\x80"),
        (256, b"\xcd\x01\x00"),
        (65536, b"\xce\x00\x01\x00\x00"),
        (1 << 32, b"\xcf\x00\x00\x00\x01\x00\x00\x00\x00"),
        (-1, b"\xff"),
        (-32, b"\xe0"),
        (-33, b"\xd0\xdf"),
        (-129, b"\xd1\xff\x7f"),
        (-32769, b"\xd2\xff\xff\x7f\xff"),
        (i64::MIN, b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00"),
    ] {
        assert_eq!(written(value), expected, "{value}");
    }
    let mut rng = Rng::new(1);
    for _ in 0..2000 {
        let value = rng.next() as i64 >> rng.below(64);
        assert_eq!(text_of(&written(value)), value.to_string());
    }
}

#[test]
fn lengths_change_their_form_where_the_format_says() {
    let first = |write: &dyn Fn(&mut Emitter)| {
        let mut out = Emitter::default();
        write(&mut out);
        out.take()[0]
    };
    for (len, text, bytes, list, map) in [
        (15u64, 0xaf, 0xc4, 0x9f, 0x8f),
        (16, 0xb0, 0xc4, 0xdc, 0xde),
        (32, 0xd9, 0xc4, 0xdc, 0xde),
        (256, 0xda, 0xc5, 0xdc, 0xde),
        (65536, 0xdb, 0xc6, 0xdd, 0xdf),
    ] {
        assert_eq!(first(&|out| out.text(&"a".repeat(len as usize)).unwrap()), text);
        assert_eq!(first(&|out| out.bytes(&vec![0; len as usize]).unwrap()), bytes);
        assert_eq!(first(&|out| out.list(len).unwrap()), list);
        assert_eq!(first(&|out| out.map(len).unwrap()), map);
    }
    for (len, tag) in [
        (0, 0xc7),
        (1, 0xd4),
        (2, 0xd5),
        (3, 0xc7),
        (4, 0xd6),
        (8, 0xd7),
        (16, 0xd8),
        (256, 0xc8),
        (65536, 0xc9),
    ] {
        assert_eq!(first(&|out| out.extension(1, len).unwrap()), tag, "{len}");
    }
    assert!(Emitter::default().list(1 << 32).is_err());
    assert!(Emitter::default().array(DType::U8, &[1 << 32], 1 << 32).is_err());
    // Elements that fit, with what is around them not.
    assert!(Emitter::default().array(DType::U8, &[(1 << 32) - 1], (1 << 32) - 1).is_err());
    assert!(Emitter::default().array(DType::Q8_0, &[32], 34).is_err());
}

#[test]
fn arrays_are_spans() {
    let one = array(DType::F32, &[2, 1]);
    // As flax writes it: extension, list of shape, name and bytes.
    assert_eq!(&one[..18], b"\xc7\x16\x01\x93\x92\x02\x01\xa7float32\xc4\x08\x01");
    let bytes = map(&[("a", &one), ("b", &array(DType::Bf16, &[])), ("none", &array(DType::I64, &[0, 3]))]);
    let document = read(&bytes).unwrap();
    assert_eq!(
        shown(&document.tree, document.tree.root().unwrap()),
        "{\"a\": array 0, \"b\": array 1, \"none\": array 2}"
    );
    let at = bytes.windows(3).position(|window| window == [1, 2, 3]).unwrap() as u64;
    let first = &document.arrays[0];
    assert_eq!((first.dtype, &*first.shape, first.is_joined), (DType::F32, &[2, 1][..], false));
    assert_eq!(first.chunks.first(), Some(&(at..at + 8)));
    assert_eq!((document.arrays[1].dtype, document.arrays[1].shape.len()), (DType::Bf16, 0));
    assert_eq!(document.arrays[2].chunks[0].end - document.arrays[2].chunks[0].start, 0);
    for dtype in dtypes() {
        assert_eq!(read(&array(dtype, &[3])).unwrap().arrays[0].dtype, dtype);
    }
}

#[test]
fn parts_are_joined_where_flax_joins_them() {
    let (one, two) = (array(DType::F32, &[2]), array(DType::F32, &[1]));
    let (shape, chunks) = (map(&[("0", b"\x03"), ("1", b"\x01")]), map(&[("1", &two), ("0", &one)]));
    let whole = chunked(b"\xc3", &shape, &chunks);
    let bytes = map(&[("before", &two), ("w", &whole), ("after", &two)]);
    let document = read(&bytes).unwrap();
    let text = "{\"before\": array 0, \"w\": array 1, \"after\": array 2}";
    assert_eq!(shown(&document.tree, document.tree.root().unwrap()), text);
    let joined = &document.arrays[1];
    assert_eq!(joined.shape, [3, 1]);
    let lens: Vec<u64> = joined.chunks.iter().map(|chunk| chunk.end - chunk.start).collect();
    // By their numbers, not as they lie in the file.
    assert_eq!(lens, [8, 4]);
    assert!(joined.chunks[0].start > joined.chunks[1].start);
    let is_known = |(_, object): (ObjectId, &Object)| !matches!(object, Object::Tensor(idx) if *idx > 2);
    assert!(document.tree.iter().all(is_known));
    // flax looks for them in dictionaries alone.
    let mut list = vec![0x91];
    list.extend(&whole);
    let document = read(&map(&[("list", &list)])).unwrap();
    assert_eq!(document.arrays.len(), 2);
    assert_eq!(read(&whole).unwrap().arrays.len(), 1);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let one = array(DType::F32, &[2]);
    let parts = |shape: &[u8], chunks: &[u8]| chunked(b"\xc3", shape, chunks);
    let (two, chunks) = (map(&[("0", b"\x02")]), map(&[("0", &one)]));
    let inner = |bytes: &[u8]| {
        let mut out = Emitter::default();
        out.extension(ARRAY, bytes.len() as u64).unwrap();
        out.raw(bytes);
        out.take()
    };
    let cases: &[(Vec<u8>, &str)] = &[
        (vec![], "m: byte 0: a value ends past what holds it, expected 1 bytes, found 0 bytes"),
        (b"\xc1".to_vec(), "m: byte 0: no value begins with this byte, found 0xc1"),
        (b"\x01\x02".to_vec(), "m: byte 1: there is more behind the document, found 1 bytes"),
        (
            b"\xdf\xff\xff\xff\xff".to_vec(),
            "m: byte 5: a value ends past what holds it, expected 8589934590 keys and values, found 0 bytes",
        ),
        (
            b"\xdd\xff\xff\xff\xff\x00".to_vec(),
            "m: byte 5: a value ends past what holds it, expected 4294967295 values, found 1 bytes",
        ),
        (
            b"\xdb\xff\xff\xff\xff\x00".to_vec(),
            "m: byte 5: a value ends past what holds it, expected 4294967295 bytes, found 1 bytes",
        ),
        (
            b"\xa2a\xff".to_vec(),
            "m: byte 2: text is not UTF-8: invalid utf-8 sequence of 1 bytes from index 1",
        ),
        (b"\x82\xa1a\x01\xa1a\x02".to_vec(), "m: byte 0: a dictionary holds a key twice, found \"a\""),
        (
            b"\x81\x90\x01".to_vec(),
            "m: byte 0: a key of a dictionary is neither text, bytes nor a plain number",
        ),
        (
            inner(b"\x90"),
            "m: byte 2: an array is not what flax writes, expected a list of 3: shape, type and elements, found a list of 0",
        ),
        (inner(b"\x93\x91\x02\xa2f4\xc4\x00"), "m: byte 2: arrays of this type are not read, found \"f4\""),
        (
            inner(b"\x93\x91\x02\xa4int8\xc4\x03abc"),
            "m: byte 3: an array's elements are not as many as its shape says, expected 2 bytes for [2] of i8, found 3 bytes",
        ),
        (
            inner(b"\x93\x91\xff\xa4int8\xc4\x01a"),
            "m: byte 3: an array's shape holds a negative number, found -1",
        ),
        (
            inner(b"\x93\x92\xcf\xff\xff\xff\xff\xff\xff\xff\xff\x02\xa4int8\xc4\x01a"),
            "m: byte 3: an array's elements are not as many as its shape says, expected fewer than 2^64 bytes for [18446744073709551615, 2] of i8, found 1 bytes",
        ),
        (
            inner(b"\x93\x91\x01\xa4int8\xc4\x01a\x00"),
            "m: byte 14: an extension is longer than what is in it, found 1 bytes more",
        ),
        (
            inner(b"\x93\x91\x01\xa4int8\xc4\x09a"),
            "m: byte 13: a value ends past what holds it, expected 9 bytes, found 1 bytes",
        ),
        (b"\xd4\x02\x90".to_vec(), "m: byte 2: a complex number is not two numbers, found a list of 0"),
        (
            parts(&two, &map(&[("1", &one)])),
            "m: byte 0: a list in an array in parts is wrong, expected a dictionary with keys 0, 1, …",
        ),
        (
            parts(&two, &map(&[("00", &one)])),
            "m: byte 0: a list in an array in parts is wrong, expected a dictionary with keys 0, 1, …",
        ),
        (parts(&two, &map(&[("0", b"\x01")])), "m: byte 0: a part of an array is no array"),
        (parts(&two, b"\x80"), "m: byte 0: an array in parts has none"),
        (
            parts(b"\x91\x02", &chunks),
            "m: byte 0: a list in an array in parts is wrong, expected a dictionary with keys 0, 1, …",
        ),
        (
            parts(&map(&[("0", b"\x03")]), &chunks),
            "m: byte 0: parts of an array are not as many elements as its shape says, expected [3] of f32, found 8 bytes",
        ),
        (
            parts(&two, &map(&[("0", &array(DType::F32, &[1])), ("1", &array(DType::I32, &[1]))])),
            "m: byte 0: parts of an array have several types, expected f32, found i32",
        ),
        (
            parts(&map(&[]), &map(&[("0", &array(DType::F32, &[]))])),
            "m: byte 0: a part of an array has no dimensions, and cannot be joined",
        ),
        (
            chunked(&one, &two, &chunks),
            "m: byte 0: an array in parts holds something else, expected shape and chunks, found \"__msgpack_chunked_array__\"",
        ),
        (map(&[(CHUNKED, b"\xc3")]), "m: byte 0: an array in parts lacks an entry, expected shape"),
    ];
    same_messages(cases.iter().map(|(bytes, expected)| {
        (read(bytes).map_or_else(|error| error.to_string(), |_| "read".to_owned()), *expected)
    }));
}

#[test]
fn limits_hold_before_anything_is_reserved() {
    let deep = |n: usize| [&b"\x91".repeat(n)[..], b"\x01"].concat();
    assert!(read(&deep(128)).is_ok());
    assert_eq!(read(&deep(129)).unwrap_err().kind(), modelferry_core::ErrorKind::Limit);
    let limited = |limits: Limits, bytes: &[u8]| read_with(bytes, &limits).unwrap_err().what().to_owned();
    let mut limits = Limits::default();
    limits.objects = 2;
    assert_eq!(limited(limits.clone(), b"\x92\x01\x02"), "too many objects");
    limits = Limits::default();
    limits.inline_bytes = 3;
    assert_eq!(limited(limits.clone(), b"\x92\xa2ab\xa2cd"), "text and bytes of a document are too long");
    limits = Limits::default();
    limits.tensors = 1;
    let one = array(DType::U8, &[1]);
    assert_eq!(limited(limits.clone(), &[&b"\x92"[..], &one, &one].concat()), "too many tensors");
    limits = Limits::default();
    limits.rank = 1;
    assert_eq!(limited(limits, &array(DType::U8, &[1, 1])), "too many dimensions");
}

#[test]
fn damaged_documents_are_refused_and_never_panic() {
    let one = array(DType::F32, &[2]);
    let parts = chunked(b"\xc3", &map(&[("0", b"\x02")]), &map(&[("0", &one)]));
    let mut complex = Emitter::default();
    complex.complex(1.0, 2.0).unwrap();
    let sample = map(&[
        ("w", &one),
        ("parts", &parts),
        ("inner", &map(&[("c", &complex.take()), ("b", b"\xc4\x01a")])),
    ]);
    let parses = |bytes: &[u8]| read(bytes).is_ok();
    assert!(parses(&sample));
    every_prefix_fails(&sample, parses);
    every_bit_flip_returns(&sample, parses);
}
