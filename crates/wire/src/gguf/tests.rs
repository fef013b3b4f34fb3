//! The rules of the header, and what is written read again.

use super::*;
use crate::testing::{Rng, every_bit_flip_returns, every_prefix_fails, file, same_messages};
use modelferry_core::error::{ErrorKind, Result};
use modelferry_core::inputs::Inputs;
use modelferry_core::limits::Limits;
use modelferry_core::model::List;

fn parse(bytes: &[u8]) -> Result<Header> {
    let inputs = file(bytes);
    let header = parse_header(&inputs, inputs.root(), &Limits::default())?;
    header.check_len(bytes.len() as u64).map_err(|error| error.file("m"))?;
    Ok(header)
}

fn fault(bytes: &[u8]) -> String {
    parse(bytes).unwrap_err().to_string()
}

/// Numbers in one byte order.
#[derive(Clone, Copy)]
struct Order(ByteOrder);

impl Order {
    fn put<const N: usize>(self, mut little: [u8; N]) -> Vec<u8> {
        if self.0 == ByteOrder::Big {
            little.reverse();
        }
        little.to_vec()
    }

    fn u32(self, number: u32) -> Vec<u8> {
        self.put(number.to_le_bytes())
    }

    fn u64(self, number: u64) -> Vec<u8> {
        self.put(number.to_le_bytes())
    }

    fn text(self, text: &[u8]) -> Vec<u8> {
        [self.u64(text.len() as u64), text.to_vec()].concat()
    }

    fn entry(self, key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
        [self.text(key.as_bytes()), self.u32(kind), value.to_vec()].concat()
    }

    /// A list, given the bytes of its items.
    fn list(self, kind: u32, n: u64, items: &[u8]) -> Vec<u8> {
        [self.u32(kind), self.u64(n), items.to_vec()].concat()
    }

    fn tensor(self, name: &str, dims: &[u64], kind: u32, begin: u64) -> Vec<u8> {
        let dims: Vec<u8> = dims.iter().flat_map(|&extent| self.u64(extent)).collect();
        let n_dims = self.u32(dims.len() as u32 / 8);
        [self.text(name.as_bytes()), n_dims, dims, self.u32(kind), self.u64(begin)].concat()
    }

    /// A file of these entries and tensors, with `data` bytes behind the padding to 32.
    fn file(self, version: u32, entries: &[Vec<u8>], tensors: &[Vec<u8>], data: usize) -> Vec<u8> {
        let counts = [self.u64(tensors.len() as u64), self.u64(entries.len() as u64)].concat();
        let head = [&MAGIC[..], &self.u32(version), &counts].concat();
        let mut bytes = [head, entries.concat(), tensors.concat()].concat();
        bytes.resize(bytes.len().next_multiple_of(32) + data, 0);
        bytes
    }
}

const LE: Order = Order(ByteOrder::Little);
const BE: Order = Order(ByteOrder::Big);

fn one(tensor: Vec<u8>, data: usize) -> Vec<u8> {
    LE.file(3, &[], &[tensor], data)
}

fn with(entry: Vec<u8>) -> Vec<u8> {
    LE.file(3, &[entry], &[], 0)
}

#[test]
fn every_dtype_maps_both_ways() {
    for dtype in DTYPES {
        assert_eq!(from_wire(to_wire(dtype).unwrap()).unwrap(), dtype);
    }
    assert_eq!(DTYPES.len(), 35);
    assert_eq!((to_wire(DType::U8), to_wire(DType::Bool)), (None, None));
}

#[test]
fn both_byte_orders_and_versions_are_read() {
    for order in [LE, BE] {
        let entries = [
            order.entry("general.architecture", 8, &order.text(b"llama")),
            order.entry("a", 4, &order.u32(7)),
            order.entry("b", 6, &order.put(0.5f32.to_le_bytes())),
            order.entry("c", 7, &[2]),
            order.entry("d", 9, &order.list(5, 2, &[order.u32(1), order.u32(u32::MAX)].concat())),
            order.entry("e", 9, &order.list(8, 2, &[order.text(b"x"), order.text(b"\xff")].concat())),
            order.entry("f", 8, &order.text(b"\xff")),
            order.entry("g", 9, &order.list(11, 0, &[])),
        ];
        let tensors = [
            order.tensor("m", &[3, 2], 0, 0),
            order.tensor("none", &[0, 5], 8, 32),
            order.tensor("one", &[], 24, 32),
            order.tensor("q", &[64, 1], 2, 64),
        ];
        for version in [2, 3] {
            let header = parse(&order.file(version, &entries, &tensors, 64 + 36)).unwrap();
            assert_eq!((header.version, header.order), (version, order.0));
            let found: Vec<(&str, String, String)> = (header.metadata.iter())
                .map(|(key, value)| (&**key, value.type_name(), value.to_string()))
                .collect();
            let expected = [
                ("general.architecture", "text", "llama"),
                ("a", "u32", "7"),
                ("b", "f32", "0.5"),
                ("c", "bool", "true"),
                ("d", "[i32]", "[1, -1]"),
                ("e", "[text]", "[\"x\", \"\u{fffd}\"]"),
                ("f", "text", "\u{fffd}"),
                ("g", "[i64]", "[]"),
            ];
            assert_eq!(found, expected.map(|(key, kind, text)| (key, kind.to_owned(), text.to_owned())));
            let places: Vec<_> = (header.tensors.iter())
                .map(|entry| (&*entry.name, entry.dtype, &*entry.shape, entry.begin, entry.len))
                .collect();
            let expected = [
                ("m", DType::F32, &[2, 3][..], 0, 24),
                ("none", DType::Q8_0, &[5, 0], 32, 0),
                ("one", DType::I8, &[], 32, 1),
                ("q", DType::Q4_0, &[1, 64], 64, 36),
            ];
            assert_eq!(places, expected);
            assert_eq!((header.data_at % 32, header.data_end - header.data_at), (0, 100));
            assert_eq!(header.padded_end() - header.data_at, 128);
        }
    }
}

#[test]
fn any_power_of_two_aligns() {
    for alignment in [1u32, 8, 64, 1 << 20, 1 << 31] {
        let entry = LE.entry(ALIGNMENT, 4, &LE.u32(alignment));
        let counts = [LE.u64(1), LE.u64(1)].concat();
        let bytes = [&MAGIC[..], &LE.u32(3), &counts, &entry, &LE.tensor("t", &[3], 24, 0)].concat();
        let inputs = file(bytes.clone());
        let header = parse_header(&inputs, inputs.root(), &Limits::default()).unwrap();
        let data_at = (bytes.len() as u64).next_multiple_of(alignment.into());
        assert_eq!((header.alignment, header.data_at), (alignment.into(), data_at));
        assert_eq!(header.data_end, data_at + 3);
    }
}

#[test]
#[rustfmt::skip]
fn every_rule_has_its_error() {
    let long = "n".repeat(64);
    let unpadded = |n: usize| LE.file(3, &[], &[LE.tensor("t", &[4], 0, 0)], 16)[..n].to_vec();
    let number = |kind| LE.entry(ALIGNMENT, kind, &LE.u32(48));
    let cases = [
        (fault(b"GGU"), "m: byte 0: the file ends inside its header, expected 4 bytes, found 3 bytes"),
        (fault(b"GGML\x03\0\0\0"), "m: byte 0: the file does not begin with GGUF, found \"GGML\""),
        (fault(&LE.file(1, &[], &[], 0)), "m: byte 4: a version of GGUF that llama.cpp does not read either, \
          expected 2 or 3, found 1"),
        (fault(&BE.file(4, &[], &[], 0)), "m: byte 4: a version of GGUF that llama.cpp does not read either, \
          expected 2 or 3, found 4, big-endian"),
        (fault(&LE.file(0, &[], &[], 0)), "m: byte 4: a version of GGUF that llama.cpp does not read either, \
          expected 2 or 3, found 0"),
        (fault(&[&MAGIC[..], &LE.u32(3), &LE.u64(1 << 60), &LE.u64(0)].concat()),
         "m: byte 8: the file is too short for so many tensors, expected at most 0, found 1152921504606846976"),
        (fault(&[&MAGIC[..], &LE.u32(3), &LE.u64(0), &LE.u64(u64::MAX)].concat()),
         "m: byte 16: the file is too short for so many metadata entries, expected at most 0, found 18446744073709551615"),
        (fault(&with(LE.entry("", 4, &LE.u32(1)))), "m: byte 24: a key is empty"),
        (fault(&with([LE.text(b"k\xff"), LE.u32(4), LE.u32(1)].concat())), "m: byte 32: a key is not UTF-8, found \"k\u{fffd}\""),
        (fault(&with(LE.entry("k", 13, &[]))), "m: byte 33: unknown type of a value, found 13 (in the value of \"k\")"),
        (fault(&with(LE.entry("k", 8, &LE.u64(1 << 40)))), "m: byte 37: a text is longer than the file, \
          expected at most 19, found 1099511627776 (in the value of \"k\")"),
        (fault(&with(LE.entry("k", 9, &LE.list(0, u64::MAX, &[])))), "m: byte 41: a list is longer than the file, \
          expected at most 15, found 18446744073709551615 (in the value of \"k\")"),
        (fault(&with(LE.entry("k", 9, &LE.list(8, 2, &[])))), "m: byte 41: a list is longer than the file, \
          expected at most 1, found 2 (in the value of \"k\")"),
        (fault(&with(LE.entry("k", 9, &LE.list(9, 0, &[])))),
         "m: byte 37: a list of lists, which ggml does not read either (in the value of \"k\")"),
        (fault(&LE.file(3, &[LE.entry("k", 0, &[1]), LE.entry("k", 0, &[2])], &[], 0)), "m: a key appears twice, found \"k\""),
        (fault(&with(number(4))), "m: general.alignment is not what ggml takes, expected a u32, a power of two, found u32 48"),
        (fault(&with(number(5))), "m: general.alignment is not what ggml takes, expected a u32, a power of two, found i32 48"),
        (fault(&with(LE.entry(ALIGNMENT, 4, &LE.u32(0)))),
         "m: general.alignment is not what ggml takes, expected a u32, a power of two, found u32 0"),
        (fault(&one(LE.tensor(&long, &[1], 24, 0), 1)),
         "m: byte 24: a tensor's name is longer than ggml reads, expected at most 63 bytes, found 64 bytes"),
        (fault(&one([LE.text(b"\xff"), LE.u32(0), LE.u32(0), LE.u64(0)].concat(), 4)),
         "m: byte 32: a tensor's name is not UTF-8"),
        (fault(&one(LE.tensor("t", &[1; 5], 24, 0), 1)),
         "m: tensor \"t\": byte 24: too many dimensions, expected at most 4, found 5"),
        (fault(&one(LE.tensor("t", &[1 << 63], 24, 0), 1)),
         "m: tensor \"t\": byte 24: the shape overflows, found [9223372036854775808]"),
        (fault(&one(LE.tensor("t", &[1 << 40, 1 << 40, 0], 24, 0), 1)),
         "m: tensor \"t\": byte 24: the shape overflows, found [0, 1099511627776, 1099511627776]"),
        (fault(&one(LE.tensor("t", &[1 << 62], 28, 0), 1)),
         "m: tensor \"t\": byte 24: the shape overflows, found [4611686018427387904] of f64"),
        (fault(&one(LE.tensor("t", &[1], 4, 0), 1)), "m: tensor \"t\": byte 24: an element type that ggml has given up, \
          found 4, which was Q4_2 (make the file anew with a current llama.cpp)"),
        (fault(&one(LE.tensor("t", &[1], 43, 0), 1)), "m: tensor \"t\": byte 24: unknown element type, found 43"),
        (fault(&one(LE.tensor("t", &[16, 2], 2, 0), 18)), "m: tensor \"t\": byte 24: rows do not hold whole blocks, \
          expected a multiple of 32, found 16 elements in a row of q4_0"),
        (fault(&one(LE.tensor("t", &[], 2, 0), 18)), "m: tensor \"t\": byte 24: rows do not hold whole blocks, \
          expected a multiple of 32, found 1 elements in a row of q4_0"),
        (fault(&LE.file(3, &[], &[LE.tensor("t", &[1], 24, 0), LE.tensor("t", &[1], 24, 32)], 64)),
         "m: tensor \"t\": the name appears twice in the header"),
        (fault(&LE.file(3, &[], &[LE.tensor("a", &[1], 24, 0), LE.tensor("b", &[1], 24, 64)], 96)),
         "m: tensor \"b\": a hole in the data comes before it, expected data from 32 on, found 64"),
        (fault(&LE.file(3, &[], &[LE.tensor("a", &[1], 24, 0), LE.tensor("b", &[1], 24, 1)], 96)),
         "m: tensor \"b\": its data overlaps another's, or does not begin at a multiple of the alignment, \
          expected data from 32 on, found 1"),
        (fault(&unpadded(79)), "m: tensor \"t\": data ends past the file, expected a file of at least 80 bytes, \
          found 79 bytes (a download that was cut short?)"),
        (fault(&unpadded(52)), "m: tensor \"t\": byte 49: the file ends inside its header, expected 8 bytes, found 3 bytes"),
        (fault(&one(LE.tensor("t", &[1 << 62], 24, 0), 1)), "m: tensor \"t\": data ends past the file, \
          expected a file of at least 4611686018427387968 bytes, found 65 bytes (a download that was cut short?)"),
    ];
    same_messages(cases);
}

#[test]
fn limits_hold() {
    let bytes = LE.file(3, &[LE.entry("key", 0, &[1])], &[LE.tensor("a", &[1], 24, 0)], 1);
    let inputs = file(&*bytes);
    let check = |change: fn(&mut Limits), expected: &str| {
        let mut limits = Limits::default();
        change(&mut limits);
        let error = parse_header(&inputs, inputs.root(), &limits).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Limit, expected));
    };
    check(
        |l| l.header_bytes = 50,
        "m: tensor \"a\": byte 49: the header is too long, expected at most 50, found 53",
    );
    check(|l| l.tensors = 0, "m: too many tensors, expected at most 0, found 1");
    check(|l| l.name_bytes = 2, "m: byte 24: a key is too long, expected at most 2, found 3");
    // A file may be as long as it likes; its entries may not be as many.
    let many = [&MAGIC[..], &LE.u32(3), &LE.u64(0), &LE.u64((1 << 20) + 1), &vec![0; 15 << 20]].concat();
    assert_eq!(fault(&many), "m: too many metadata entries, expected at most 1048576, found 1048577");
}

#[test]
fn long_values_cross_the_buffer() {
    let texts: Vec<Value> = (0..40_000).map(|idx| Value::Text(format!("token {idx}"))).collect();
    let values = [
        Value::List(List::of(ValueType::Text, &texts).unwrap()),
        Value::Text("x".repeat(200_000)),
        Value::List(List::new(ValueType::U16, 100_000, vec![7; 200_000]).unwrap()),
        Value::U8(1),
    ];
    let entries: Vec<(&str, &Value)> = ["a", "b", "c", "d"].into_iter().zip(&values).collect();
    let written = write_header(&entries, [], DEFAULT_ALIGNMENT).unwrap();
    let header = parse(&written.parts.concat()).unwrap();
    assert!(header.metadata.iter().map(|(key, value)| (&**key, value)).eq(entries));
}

#[test]
fn written_headers_come_back() {
    for seed in 1..300 {
        let mut rng = Rng::new(seed);
        let value = |rng: &mut Rng| {
            let kind = ValueType::ALL[rng.below(12) as usize];
            let mut item = || match kind {
                ValueType::Text => Value::Text("é\0".repeat(rng.below(4) as usize)),
                kind => kind.unpack(&rng.next().to_le_bytes()).unwrap().0,
            };
            let items = [item(), item(), item()];
            match rng.below(3) {
                0 => Value::List(List::of(kind, &items[..rng.below(4) as usize]).unwrap()),
                _ => items[0].clone(),
            }
        };
        let metadata: Vec<(String, Value)> =
            (0..rng.below(6)).map(|idx| (format!("k{idx}\n"), value(&mut rng))).collect();
        let alignment = 1 << rng.below(8);
        let aligned = Value::U32(alignment as u32);
        let mut entries: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (&**key, value)).collect();
        entries.push((ALIGNMENT, &aligned));
        let tensors: Vec<(String, DType, Vec<u64>)> = (0..rng.below(7))
            .map(|idx| {
                let dtype = DTYPES[rng.below(DTYPES.len() as u64) as usize];
                let mut shape: Vec<u64> = (0..rng.below(4)).map(|_| rng.below(4)).collect();
                shape.push(dtype.item_elements() * rng.below(3));
                (format!("t{idx}"), dtype, shape)
            })
            .collect();
        let new = tensors.iter().map(|(name, dtype, shape)| NewEntry { name, dtype: *dtype, shape });
        let written = write_header(&entries, new, alignment).unwrap();
        let mut bytes = written.parts.concat();
        bytes.resize(bytes.len() + written.padding as usize + (1 << 16), 0);

        let header = parse(&bytes).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(header.metadata.iter().map(|(key, value)| (&**key, value)).eq(entries), "seed {seed}");
        let found = header.tensors.iter();
        let found = found.map(|entry| (entry.name.clone(), entry.dtype, entry.shape.to_vec()));
        assert!(found.eq(tensors), "seed {seed}");
        let len = written.parts.concat().len() as u64;
        assert_eq!(header.alignment, alignment, "seed {seed}");
        assert_eq!(header.data_at, if header.tensors.is_empty() { len } else { len + written.padding });
    }
}

#[test]
fn what_cannot_be_written_is_refused() {
    let write = |name, dtype, shape: &[u64]| {
        write_header(&[], [NewEntry { name, dtype, shape }], 32).unwrap_err().to_string()
    };
    let long = "n".repeat(64);
    let cases = [
        (write("t", DType::U8, &[1]), "tensor \"t\": GGUF has no such element type, found u8".to_owned()),
        (
            write(&long, DType::F32, &[1]),
            format!("tensor \"{long}\": ggml reads no name of so many bytes, expected at most 63, found 64"),
        ),
        (
            write("a\0", DType::F32, &[]),
            "tensor \"a\\0\": ggml ends a name at a zero, found \"a\\0\"".to_owned(),
        ),
        (
            write("t", DType::F32, &[1; 5]),
            "tensor \"t\": ggml has no tensors of so many dimensions, expected at most 4, found 5".to_owned(),
        ),
        (
            write("t", DType::Q4_0, &[2, 16]),
            "tensor \"t\": rows do not hold whole blocks, expected a multiple of 32, found 16 elements in a row of q4_0"
                .to_owned(),
        ),
        (
            write("t", DType::F32, &[0, 1 << 40, 1 << 40]),
            "tensor \"t\": a shape that ggml cannot count, found [0, 1099511627776, 1099511627776]".to_owned(),
        ),
    ];
    same_messages(cases);
    let empty = write_header(&[("", &Value::U8(1))], [], 32).unwrap_err();
    assert_eq!(empty.to_string(), "GGUF has no empty key");
}

#[test]
fn damage_is_an_error_or_another_header_and_never_a_panic() {
    let entries = [LE.entry("k", 9, &LE.list(8, 1, &LE.text(b"v"))), LE.entry("n", 4, &LE.u32(1))];
    let bytes = LE.file(3, &entries, &[LE.tensor("a", &[2, 3], 0, 0), LE.tensor("b", &[1], 24, 32)], 33);
    every_prefix_fails(&bytes, |bytes| parse(bytes).is_ok());
    every_bit_flip_returns(&bytes, |bytes| parse(bytes).is_ok());
}
