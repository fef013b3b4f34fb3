//! The header as numpy writes and reads it.

use super::*;
use crate::testing::{Rng, every_bit_flip_returns, every_prefix_fails, file, same_messages};
use modelferry_core::error::{ErrorKind, Result};
use modelferry_core::inputs::{Inputs, Window};
use modelferry_core::limits::Limits;

fn with_text(version: u8, text: &str) -> Vec<u8> {
    let mut bytes = [&MAGIC[..], &[version, 0]].concat();
    bytes.extend_from_slice(&(text.len() as u32).to_le_bytes()[..if version == 1 { 2 } else { 4 }]);
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

fn header(text: &str) -> Result<Header> {
    match parse(&with_text(1, text), &Limits::default())? {
        Parsed::Header(header) => Ok(header),
        Parsed::NeedMore(_) => panic!("the header is whole"),
    }
}

fn fault(text: &str) -> String {
    header(text).unwrap_err().to_string()
}

fn descr(text: &str) -> Result<Descr> {
    header(&format!("{{'descr': '{text}', 'fortran_order': False, 'shape': ()}}")).map(|header| header.descr)
}

#[test]
fn headers_are_numpys_own_bytes() {
    // np.save of numpy 2.4.6: np.zeros((2, 3), "<f4"), np.zeros((3,), "?"), np.array(1j), and a transpose.
    let cases: [(DType, MemoryOrder, &[u64], &str); 4] = [
        (DType::F32, MemoryOrder::C, &[2, 3], "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"),
        (DType::Bool, MemoryOrder::C, &[3], "{'descr': '|b1', 'fortran_order': False, 'shape': (3,), }"),
        (DType::C128, MemoryOrder::C, &[], "{'descr': '<c16', 'fortran_order': False, 'shape': (), }"),
        (
            DType::I64,
            MemoryOrder::Fortran,
            &[3, 2],
            "{'descr': '<i8', 'fortran_order': True, 'shape': (3, 2), }",
        ),
    ];
    for (dtype, order, shape, text) in cases {
        let bytes = write_header(dtype, order, shape).unwrap();
        assert_eq!(bytes.len(), 128, "{text}");
        assert_eq!(bytes[..10], [&MAGIC[..], &[1, 0, 118, 0]].concat());
        let expected = format!("{text:<117}\n");
        assert_eq!(std::str::from_utf8(&bytes[10..]).unwrap(), expected);
    }
}

#[test]
fn every_writable_type_comes_back() {
    for seed in 1..400 {
        let mut rng = Rng::new(seed);
        let order = if rng.below(2) > 0 { MemoryOrder::C } else { MemoryOrder::Fortran };
        let shape: Vec<u64> = (0..rng.below(9)).map(|_| rng.next() >> (58 + rng.below(6))).collect();
        for dtype in DType::all() {
            let Some(text) = type_string(dtype) else {
                assert!(write_header(dtype, order, &shape).is_err());
                continue;
            };
            let bytes = write_header(dtype, order, &shape).unwrap();
            assert!(bytes.len().is_multiple_of(64), "seed {seed}");
            let Ok(Parsed::Header(header)) = parse(&bytes, &Limits::default()) else { panic!("seed {seed}") };
            assert_eq!((header.order, &header.shape), (order, &shape), "seed {seed}");
            assert_eq!(header.data_at, bytes.len() as u64, "seed {seed}");
            let item = dtype.item_bytes();
            assert_eq!(header.data_len, shape.iter().product::<u64>() * item, "seed {seed}");
            match header.descr {
                Descr::Scalar(found, ByteOrder::Little) => assert_eq!(found, dtype),
                Descr::Void { bytes, order: Some(ByteOrder::Little) } if text.contains('V') => {
                    assert_eq!(u64::from(bytes), item);
                }
                found => panic!("{dtype}: {found:?}"),
            }
        }
    }
    assert_eq!(DType::all().filter(|&dtype| type_string(dtype).is_some()).count(), 23);
}

#[test]
fn long_headers_take_version_two() {
    let shape = vec![i64::MAX as u64; 4000];
    let bytes = write_header(DType::U8, MemoryOrder::C, &shape).unwrap();
    assert_eq!(bytes[6..8], [2, 0]);
    assert_eq!(bytes.len() % 64, 0);
    let limits = {
        let mut limits = Limits::default();
        limits.rank = 5000;
        limits
    };
    assert_eq!(
        parse(&bytes, &limits).unwrap_err().to_string().split(", found").next(),
        Some(&*format!("byte {}: the array's bytes are more than 64 bits count", bytes.len()))
    );
    assert_eq!(parse(&bytes, &Limits::default()).unwrap_err().kind(), ErrorKind::Limit);
}

#[test]
fn python_is_read_as_loosely_as_numpy_does() {
    let expected = header("{'descr': '>i4', 'fortran_order': True, 'shape': (4, 5), }   \n").unwrap();
    assert_eq!(expected.descr, Descr::Scalar(DType::I32, ByteOrder::Big));
    assert_eq!(
        (expected.order, &*expected.shape, expected.data_len),
        (MemoryOrder::Fortran, &[4, 5][..], 80)
    );
    for text in [
        "{'shape':(4,5),'descr':'>i4','fortran_order':True}",
        "  {\"shape\": (4L, 5L,), \"fortran_order\": True, \"descr\": \">i\"\n}",
    ] {
        let found = header(text).unwrap();
        assert_eq!(
            (found.descr, found.order, found.shape),
            (expected.descr, expected.order, expected.shape.clone())
        );
    }
    assert_eq!(*header("{'descr': 'u1', 'fortran_order': False, 'shape': (7,)}").unwrap().shape, [7]);
    let text = "{'descr': '<f2', 'fortran_order': False, 'shape': ()}";
    for version in 1..4 {
        let bytes = with_text(version, text);
        let Ok(Parsed::Header(found)) = parse(&bytes, &Limits::default()) else {
            panic!("version {version}")
        };
        assert_eq!((found.data_at, found.data_len), (bytes.len() as u64, 2));
    }
}

#[test]
fn every_code_has_its_type() {
    let scalars = "? b B h H i I l L q Q e f d F D b1 i1 u1 i2 u2 i4 u4 i8 u8 f2 f4 f8 c8 c16 f1";
    for code in scalars.split(' ') {
        for (prefix, order) in [
            ("", ByteOrder::Little),
            ("<", ByteOrder::Little),
            ("|", ByteOrder::Little),
            (">", ByteOrder::Big),
        ] {
            let Ok(Descr::Scalar(dtype, found)) = descr(&format!("{prefix}{code}")) else { panic!("{code}") };
            assert_eq!(found, order);
            if let Some(width) = code.get(1..).and_then(|width| width.parse::<u64>().ok()) {
                assert_eq!(dtype.item_bytes(), width, "{code}");
            }
        }
    }
    assert_eq!(descr("|V2").unwrap(), Descr::Void { bytes: 2, order: None });
    assert_eq!(descr("<V2").unwrap(), Descr::Void { bytes: 2, order: Some(ByteOrder::Little) });
    assert_eq!(descr(">V1").unwrap(), Descr::Void { bytes: 1, order: Some(ByteOrder::Big) });
}

#[test]
#[rustfmt::skip]
fn what_is_not_supported_is_named() {
    let long = "long double arrays are not supported, their layout is the machine's";
    let strings = "arrays of strings are not supported";
    let dates = "dates and time differences are not supported";
    let void = "void arrays of this width are not supported";
    for (code, expected) in [
        ("<f16", long), ("g", long), ("<c32", long), ("G", long), ("|S3", strings), ("<U2", strings), ("a3", strings),
        ("T", strings), ("<M8[ns]", dates), ("<m8", dates), ("|V0", void), ("V", void), ("V65536", void),
        ("|O", "object arrays are pickles, which are never run"),
        ("O8", "object arrays are pickles, which are never run"),
        ("2f4", "subarray types are not supported"), ("(2,)f4", "subarray types are not supported"),
        ("f4,i4", "structured arrays are not supported"),
        ("x", "unknown array element type"), ("i3", "unknown array element type"), ("", "unknown array element type"),
        ("\u{e9}", "unknown array element type"),
    ] {
        let error = descr(code).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(error.what(), expected, "{code}");
    }
    assert_eq!(descr("|O").unwrap_err().to_string(),
        "byte 20: object arrays are pickles, which are never run, found \"|O\"");
    assert_eq!(fault("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': ()}"),
        "byte 20: structured arrays are not supported");
    assert_eq!(fault("{'descr': ('<f4', (2,)), 'fortran_order': False, 'shape': ()}"),
        "byte 20: subarray types are not supported");
}

#[test]
#[rustfmt::skip]
fn every_rule_has_its_error() {
    let not = "the npy header is not the dictionary it should be";
    let f = |text: &str| fault(&format!("{{'descr': 'u1', 'fortran_order': False, {text}}}"));
    same_messages([
        (fault(""), format!("byte 10: {not}, expected '{{', found its end")),
        (fault("[]"), format!("byte 10: {not}, expected '{{', found '['")),
        (fault("{}"), "byte 12: the npy header has no \"descr\", expected descr, fortran_order, shape".into()),
        (fault("{'descr': 'u1'}"),
         "byte 25: the npy header has no \"fortran_order\", expected descr, fortran_order, shape".into()),
        (f(""), "byte 51: the npy header has no \"shape\", expected descr, fortran_order, shape".into()),
        (fault("{'descr': 'u1"), "byte 20: a string in the npy header does not end".into()),
        (fault("{'desc\\x72': 'u1'"), format!("byte 16: {not}, expected the end of a string, found '\\\\'")),
        (fault("{'descr': None}"), format!("byte 20: {not}, expected a type string, found 'N'")),
        (fault("{'descr' 'u1'}"), format!("byte 19: {not}, expected ':', found '\\''")),
        (fault("{'descr': 'u1' 'shape'}"), format!("byte 25: {not}, expected '}}', found '\\''")),
        (fault("{'a': 1}"), "byte 11: unknown key in the npy header, found \"a\"".into()),
        (fault("{'descr': 'u1', 'descr': 'u1'}"),
         "byte 26: a key of the npy header appears twice, found \"descr\"".into()),
        (fault("{'fortran_order': 0}"), format!("byte 28: {not}, expected True or False, found '0'")),
        (f("'shape': 3"), format!("byte 59: {not}, expected '(', found '3'")),
        (f("'shape': (3)"), format!("byte 61: {not}, expected ',' after the only extent, found ')'")),
        (f("'shape': [3]"), format!("byte 59: {not}, expected '(', found '['")),
        (f("'shape': (3 4)"), format!("byte 62: {not}, expected ',' or ')', found '4'")),
        (f("'shape': (,)"), format!("byte 60: {not}, expected an extent, found ','")),
        (f("'shape': (-1,)"), "byte 60: an extent is negative".into()),
        (f("'shape': (1.5,)"), format!("byte 61: {not}, expected ',' or ')', found '.'")),
        (f("'shape': (18446744073709551616,)"), "byte 79: an extent is more than 64 bits hold".into()),
        (f("'shape': (4294967296, 4294967296)"),
         "byte 84: the array's bytes are more than 64 bits count, found [4294967296, 4294967296]".into()),
        (f("'shape': ()} + {"), format!("byte 63: {not}, expected nothing more, found '+'")),
    ]);
    // An empty array is empty however large its other extents are.
    let text = "{'descr': 'u1', 'fortran_order': False, 'shape': (4294967296, 4294967296, 0)}";
    assert_eq!(header(text).unwrap().data_len, 0);
    let limits = Limits::default();
    let parse = |bytes: &[u8]| parse(bytes, &limits).unwrap_err().to_string();
    assert_eq!(parse(b"PK\x03"), "byte 0: this is no npy file, expected \\x93NUMPY, found PK\\x03");
    assert_eq!(parse(b"\x93NUMPY\x04\x00"), "byte 6: unknown npy version, expected 1.0, 2.0 or 3.0, found 4.0");
    assert_eq!(parse(b"\x93NUMPY\x02\x00\xff\xff\xff\xff"),
        "byte 8: the npy header is too long, expected at most 1048576, found 4294967295");
    assert_eq!(parse(&[&with_text(3, "{")[..8], b"\x01\0\0\0\xff"].concat()), "byte 12: the npy header is not UTF-8");
}

#[test]
fn more_is_asked_for_until_the_header_is_whole() {
    let bytes = write_header(DType::F32, MemoryOrder::C, &[3]).unwrap();
    let limits = Limits::default();
    assert_eq!(parse(b"", &limits).unwrap(), Parsed::NeedMore(10));
    for len in 0..bytes.len() {
        let Parsed::NeedMore(more) = parse(&bytes[..len], &limits).unwrap() else { panic!("{len}") };
        assert!(more > len as u64 && more <= bytes.len() as u64);
    }
    assert_eq!(parse(b"\x93NUMPY\x02\x00", &limits).unwrap(), Parsed::NeedMore(12));
    assert_eq!(parse(b"\x93NUMPY\x02\x00\x00\x04\x00\x00", &limits).unwrap(), Parsed::NeedMore(1036));
}

#[test]
fn a_stored_array_is_read_where_it_lies() {
    let array = [&*write_header(DType::I16, MemoryOrder::C, &[2, 100]).unwrap(), &[0; 400]].concat();
    let read = |bytes: &[u8]| {
        let inputs = file([&[9; 5], bytes].concat());
        let window = Window { file: inputs.root(), at: 5, len: bytes.len() as u64 };
        read_header(&inputs, window, &Limits::default())
    };
    assert_eq!(read(&array).unwrap().data_at, 128);
    assert_eq!(
        read(&array[..500]).unwrap_err().to_string(),
        "m: byte 5: the array is cut short, expected 128 bytes of header and 400 of data, found 500 bytes"
    );
    assert_eq!(
        read(&[&array, &[0][..]].concat()).unwrap_err().to_string(),
        "m: byte 5: bytes follow the array, expected 128 bytes of header and 400 of data, found 529 bytes"
    );
    assert_eq!(
        read(&array[..100]).unwrap_err().to_string(),
        "m: byte 5: the npy header is cut short, expected 128 bytes or more, found 100 bytes"
    );
    assert_eq!(
        read(b"zzzzzzzzzzz").unwrap_err().to_string(),
        "m: byte 5: this is no npy file, expected \\x93NUMPY, found zzzzzz"
    );
    every_prefix_fails(&array, |bytes| read(bytes).is_ok());
    every_bit_flip_returns(&array, |bytes| read(bytes).is_ok());
    let long = with_text(2, &format!("{{'descr': 'u1', 'fortran_order': False, 'shape': (),{:900}}}", ""));
    assert_eq!(read(&[&*long, b"x"].concat()).unwrap().data_at, long.len() as u64);
}

#[test]
fn the_dtype_field_comes_back() {
    for dtype in DType::all() {
        let field = encode_dtype(dtype);
        assert_eq!(decode_dtype(&[&[1, 0, 1, 0, 9], &*field].concat()).unwrap(), Some(dtype));
        every_bit_flip_returns(&field, |field| decode_dtype(field).is_ok());
    }
    assert_eq!(encode_dtype(DType::Bf16), b"FM\x05\0\x01bf16");
    assert_eq!(decode_dtype(b"").unwrap(), None);
    assert_eq!(
        decode_dtype(b"FM\x05\0\x02bf16").unwrap_err().to_string(),
        "the array's dtype field is of another version, expected 1, found 2"
    );
    assert_eq!(
        decode_dtype(b"FM\x05\0\x01bf17").unwrap_err().to_string(),
        "the array's dtype field names an unknown type, found bf17"
    );
    assert_eq!(decode_dtype(b"FM\0\0").unwrap_err().to_string(), "the array's dtype field is empty");
}
