//! The rules of the header, and the reference's opinion of what we write.

use super::*;
use crate::testing::{Rng, every_bit_flip_returns, every_prefix_fails, file, same_messages};
use ::safetensors::SafeTensors;
use modelferry_core::error::{ErrorKind, Result};
use modelferry_core::inputs::Inputs;
use modelferry_core::limits::Limits;
use std::collections::BTreeMap;

fn parse(bytes: &[u8]) -> Result<Header> {
    let inputs = file(bytes);
    parse_header(&inputs, inputs.root(), &Limits::default())
}

fn with_text(text: &str, data_len: usize) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes.resize(bytes.len() + data_len, 0);
    bytes
}

fn fault(text: &str, data_len: usize) -> String {
    parse(&with_text(text, data_len)).unwrap_err().to_string()
}

#[test]
fn every_dtype_maps_both_ways() {
    let mut n_mapped = 0;
    for dtype in DType::all() {
        if let Some(wire) = to_wire(dtype) {
            assert_eq!(from_wire(wire), Some(dtype));
            assert_eq!(Some(wire.bitsize() as u32), dtype.bits(), "{dtype}");
            n_mapped += 1;
        }
    }
    assert_eq!(n_mapped, 22);
}

#[test]
fn order_metadata_and_empty_tensors_are_kept() {
    let text = r#"{"b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]},"__metadata__":{"z":"1","a":"é\n"},
        "e":{"data_offsets":[1,1],"dtype":"I64","shape":[0,3]},"a\u0062":{"dtype":"U8","shape":[],"data_offsets":[0,1],"x":[1]}}   "#;
    let header = parse(&with_text(text, 9)).unwrap();
    assert_eq!(header.tensors.iter().map(|t| &*t.name).collect::<Vec<_>>(), ["b", "e", "ab"]);
    assert_eq!(header.data_order(), [2, 1, 0]);
    assert_eq!(header.metadata, Some(vec![("z".into(), "1".into()), ("a".into(), "é\n".into())]));
    assert_eq!(*header.tensors[1].shape, [0, 3]);
    assert_eq!(header.ignored_keys, ["x"]);
    assert_eq!((header.data_at, header.data_len), (8 + text.len() as u64, 9));
}

#[test]
fn absent_null_and_empty_metadata_differ() {
    assert_eq!(parse(&with_text("{}", 0)).unwrap().metadata, None);
    assert_eq!(parse(&with_text(r#"{"__metadata__":null}"#, 0)).unwrap().metadata, None);
    assert_eq!(parse(&with_text(r#"{"__metadata__":{}}"#, 0)).unwrap().metadata, Some(vec![]));
}

#[test]
#[rustfmt::skip]
fn every_rule_has_its_error() {
    let one = |body: &str, len| fault(&format!("{{\"t\":{body}}}"), len);
    let cases = [
        (parse(b"1234567").unwrap_err().to_string(),
         "m: the file is too short for a header, expected at least 8 bytes, found 7 bytes"),
        (parse(b"version https://git-lfs").unwrap_err().to_string(),
         "m: byte 0: the header is longer than the file, expected at most 15 bytes, found 2336927755350992246 bytes"),
        (fault("", 0), "m: byte 0: the header is empty"),
        (fault(" {}", 0), "m: byte 8: the header does not begin with a brace, expected '{', found ' '"),
        (fault("{}x", 0), "m: byte 10: the header is not a tensor table: trailing characters"),
        (fault("{}\0", 0), "m: byte 10: the header is not a tensor table: trailing characters"),
        (fault("{\n\"t\":1}", 0), "m: tensor \"t\": byte 14: the header is not a tensor table: invalid type: integer `1`, \
          expected an object with \"dtype\", \"shape\" and \"data_offsets\""),
        (one(r#"["F32",[1],[0,4]]"#, 4), "m: tensor \"t\": byte 12: the header is not a tensor table: invalid type: \
          sequence, expected an object with \"dtype\", \"shape\" and \"data_offsets\""),
        (one(r#"{"dtype":"F33","shape":[],"data_offsets":[0,4]}"#, 4),
         "m: tensor \"t\": byte 26: unknown dtype, found \"F33\""),
        (one(r#"{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}"#, 4),
         "m: tensor \"t\": byte 38: the header is not a tensor table: invalid value: integer `-1`, expected u64"),
        (one(r#"{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}"#, 4),
         "m: tensor \"t\": byte 39: the header is not a tensor table: invalid type: floating point `1.0`, expected u64"),
        (one(r#"{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,4]}"#, 4),
         "m: tensor \"t\": byte 56: the header is not a tensor table: invalid type: floating point \
          `1.8446744073709552e+19`, expected u64"),
        (one(r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}"#, 4),
         "m: tensor \"t\": byte 60: the header is not a tensor table: trailing characters"),
        (one(r#"{"dtype":"F32","shape":[1]}"#, 4), "m: tensor \"t\": byte 39: key \"data_offsets\" is missing"),
        (one(r#"{"shape":[1],"data_offsets":[0,4]}"#, 4), "m: tensor \"t\": byte 46: key \"dtype\" is missing"),
        (one(r#"{"dtype":"F32","data_offsets":[0,4]}"#, 4), "m: tensor \"t\": byte 48: key \"shape\" is missing"),
        (one(r#"{"dtype":"F32","shape":[1],"dtype":"I32","data_offsets":[0,4]}"#, 4),
         "m: tensor \"t\": byte 52: key \"dtype\" appears twice"),
        (one(r#"{"dtype":"F32","shape":[1],"x":1,"x":2,"data_offsets":[0,4]}"#, 4),
         "m: tensor \"t\": byte 50: key \"x\" appears twice"),
        (one(r#"{"dtype":"F32","shape":[1],"data_offsets":[4,0]}"#, 4),
         "m: tensor \"t\": byte 60: data ends before it begins, expected an end of at least 4, found 0"),
        (one(r#"{"dtype":"F32","shape":[2],"data_offsets":[0,4]}"#, 4),
         "m: tensor \"t\": byte 60: data offsets do not fit the shape, expected 8 bytes for f32 [2], found 4 bytes from 0 to 4"),
        (one(r#"{"dtype":"F4","shape":[3],"data_offsets":[0,2]}"#, 2),
         "m: tensor \"t\": byte 59: the shape does not give a whole number of bytes below 2^64, found f4_e2m1 [3]"),
        (one(r#"{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}"#, 0),
         "m: tensor \"t\": byte 79: the shape does not give a whole number of bytes below 2^64, found u8 [4294967296, 4294967296]"),
        (one(r#"{"dtype":"U8","shape":[4],"data_offsets":[0,4]}"#, 3),
         "m: tensor \"t\": data ends past the file, expected a file of at least 65 bytes, found 64 bytes \
          (a download that was cut short?)"),
        (one(r#"{"dtype":"U8","shape":[4],"data_offsets":[18446744073709551611,18446744073709551615]}"#, 3),
         "m: tensor \"t\": a hole in the data comes before it, expected data from 0 on, found 18446744073709551611"),
        (one(r#"{"dtype":"U8","shape":[4],"data_offsets":[0,4]}"#, 6),
         "m: byte 65: bytes follow the last tensor, expected a file of 65 bytes, found 67 bytes"),
        (one(r#"{"dtype":"U8","shape":[4],"data_offsets":[1,5]}"#, 5),
         "m: tensor \"t\": a hole in the data comes before it, expected data from 0 on, found 1"),
        (fault(r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[3,7]}}"#, 7),
         "m: tensor \"b\": its data overlaps that of \"a\", expected data from 4 on, found 3"),
        (fault(r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#, 4),
         "m: tensor \"b\": its data overlaps that of \"a\", expected data from 4 on, found 0"),
        (fault(r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"\u0061":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#, 0),
         "m: tensor \"a\": the name appears twice in the header"),
        (fault(r#"{"__metadata__":{"k":"1","k":"2"}}"#, 0), "m: byte 35: metadata key \"k\" appears twice"),
        (fault(r#"{"__metadata__":{},"__metadata__":{}}"#, 0), "m: byte 40: \"__metadata__\" appears twice"),
        (fault(r#"{"__metadata__":{"k":1}}"#, 0),
         "m: byte 29: the header is not a tensor table: invalid type: integer `1`, expected a string"),
        (fault(r#"{"__metadata__":[]}"#, 0), "m: byte 25: the header is not a tensor table: invalid type: sequence, \
          expected an object of strings under \"__metadata__\""),
    ];
    // Offsets say where the parser stood, which is at most a few bytes past the fault.
    same_messages(cases);
    let bytes = with_text("{\"a\u{e9}\":1}", 0);
    let cut = [&bytes[..12], &bytes[13..]].concat();
    let mut cut = cut;
    cut[0] -= 1;
    assert_eq!(parse(&cut).unwrap_err().to_string(), "m: byte 11: the header is not UTF-8");
}

#[test]
fn limits_hold() {
    let bytes = with_text(
        r#"{"ab":{"dtype":"U8","shape":[1,1],"data_offsets":[0,1]},"c":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}}"#,
        1,
    );
    let inputs = file(&*bytes);
    let check = |change: fn(&mut Limits), expected: &str| {
        let mut limits = Limits::default();
        change(&mut limits);
        let error = parse_header(&inputs, inputs.root(), &limits).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Limit, expected));
    };
    check(|l| l.header_bytes = 50, "m: byte 0: the header is too long, expected at most 50, found 108");
    check(|l| l.tensors = 1, "m: byte 66: too many tensors, expected at most 1, found 2");
    check(|l| l.rank = 1, "m: tensor \"ab\": byte 40: too many dimensions, expected at most 1");
    check(
        |l| l.name_bytes = 1,
        "m: byte 12: a tensor name is too long, expected at most 1 bytes, found 2 bytes",
    );
}

#[test]
fn deep_nesting_neither_overflows_nor_hangs() {
    let deep = format!("{{\"t\":{{\"x\":{}1{}}}}}", "[".repeat(1 << 20), "]".repeat(1 << 20));
    assert_eq!(parse(&with_text(&deep, 0)).unwrap_err().kind(), ErrorKind::Malformed);
}

fn random_model(rng: &mut Rng) -> Vec<(String, DType, Vec<u64>)> {
    let dtypes: Vec<DType> = DType::all().filter(|&dtype| to_wire(dtype).is_some()).collect();
    let n = rng.below(9);
    let tensor = |idx, rng: &mut Rng| {
        let dtype = dtypes[rng.below(dtypes.len() as u64) as usize];
        let mut shape: Vec<u64> = (0..rng.below(5)).map(|_| rng.below(4)).collect();
        if dtype.is_sub_byte() {
            shape.push(8 * rng.below(3));
        }
        (format!("{}.\u{7}\"\\é{idx}", ["a", "layer", "\u{1f600}"][rng.below(3) as usize]), dtype, shape)
    };
    (0..n).map(|idx| tensor(idx, rng)).collect()
}

fn entries(model: &[(String, DType, Vec<u64>)]) -> impl Iterator<Item = NewEntry<'_>> {
    model.iter().map(|(name, dtype, shape)| NewEntry { name, dtype: *dtype, shape })
}

#[test]
fn written_headers_come_back_and_the_reference_agrees() {
    for seed in 1..300 {
        let mut rng = Rng::new(seed);
        let model = random_model(&mut rng);
        let metadata: BTreeMap<String, String> =
            (0..rng.below(4)).map(|idx| (format!("k{idx}\n"), "v\"".repeat(idx as usize))).collect();
        let metadata = (rng.below(3) > 0).then_some(metadata);
        let written = write_header(entries(&model), metadata.as_ref()).unwrap();
        assert_eq!(written.bytes.len() % 8, 0, "seed {seed}");
        let mut bytes = written.bytes;
        bytes.resize(bytes.len() + written.data_len as usize, 0);

        let header = parse(&bytes).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let tensors = header.tensors.iter();
        assert!(
            tensors.map(|t| (t.name.clone(), t.dtype, t.shape.to_vec())).eq(model.iter().cloned()),
            "seed {seed}"
        );
        assert_eq!(header.metadata.map(BTreeMap::from_iter), metadata, "seed {seed}");

        let (_, reference) =
            SafeTensors::read_metadata(&bytes).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert_eq!(reference.tensors().len(), model.len(), "seed {seed}");
        for tensor in &header.tensors {
            let info = reference.info(&tensor.name).unwrap();
            assert_eq!(info.data_offsets, (tensor.begin as usize, tensor.end as usize), "seed {seed}");
        }
    }
}

#[test]
fn the_text_is_the_reference_writers_own() {
    for seed in 1..200 {
        let mut rng = Rng::new(seed);
        let mut model = random_model(&mut rng);
        // The reference writes the widest types first.
        model.sort_by(|(a, at, _), (b, bt, _)| to_wire(*bt).cmp(&to_wire(*at)).then(a.cmp(b)));
        let metadata: Option<BTreeMap<String, String>> =
            (rng.below(2) > 0).then(|| BTreeMap::from([("format".into(), "pt".into())]));
        let written = write_header(entries(&model), metadata.as_ref()).unwrap();
        let zeros = vec![0; written.data_len as usize];
        let views = model.iter().map(|(name, dtype, shape)| {
            let data = &zeros[..byte_len(*dtype, shape).unwrap() as usize];
            let shape = shape.iter().map(|&extent| extent as usize).collect();
            let view = ::safetensors::tensor::TensorView::new(to_wire(*dtype).unwrap(), shape, data).unwrap();
            (name, view)
        });
        let reference = ::safetensors::serialize(views, metadata.map(|m| m.into_iter().collect())).unwrap();
        assert!(reference.starts_with(&written.bytes), "seed {seed}");
        assert_eq!(reference.len() as u64, written.bytes.len() as u64 + written.data_len, "seed {seed}");
    }
}

#[test]
fn what_cannot_be_written_is_refused() {
    let write = |name, dtype, shape: &[u64]| {
        write_header([NewEntry { name, dtype, shape }], None).unwrap_err().to_string()
    };
    assert_eq!(
        write("t", DType::Q8_0, &[32]),
        "tensor \"t\": safetensors has no such element type, found q8_0"
    );
    assert_eq!(
        write("__metadata__", DType::F32, &[]),
        "tensor \"__metadata__\": safetensors keeps this name for itself"
    );
    assert_eq!(
        write("t", DType::F6E2M3, &[3]),
        "tensor \"t\": safetensors needs a whole number of bytes below 2^64, found f6_e2m3 [3]"
    );
    assert_eq!(
        write("t", DType::F64, &[1 << 61]),
        "tensor \"t\": safetensors needs a whole number of bytes below 2^64, found f64 [2305843009213693952]"
    );
    let name = "n".repeat(1 << 20);
    let many = (0..100).map(|_| NewEntry { name: &name, dtype: DType::U8, shape: &[] });
    let error = write_header(many, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Target);
    assert!(error.to_string().starts_with("the header is longer than any safetensors reader accepts"));
}

#[test]
fn damage_is_an_error_or_another_header_and_never_a_panic() {
    let model = [("a".to_owned(), DType::F32, vec![2, 1]), ("b".to_owned(), DType::Bool, vec![])];
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let written = write_header(entries(&model), Some(&metadata)).unwrap();
    let mut bytes = written.bytes;
    bytes.resize(bytes.len() + written.data_len as usize, 7);
    every_prefix_fails(&bytes, |bytes| parse(bytes).is_ok());
    every_bit_flip_returns(&bytes, |bytes| {
        let ours = parse(bytes).is_ok();
        // Whatever we accept, the format's own reader accepts.
        assert!(!ours || SafeTensors::read_metadata(bytes).is_ok());
        ours
    });
}

#[test]
fn a_rewritten_header_keeps_the_data_at_its_place_of_a_page() {
    let entry = NewEntry { name: "w", dtype: DType::U8, shape: &[3] };
    let rewrite = |metadata: &[(&str, &str)], data_at: u64| {
        let bytes = rewrite_header([entry], metadata, data_at).unwrap().bytes;
        let header = parse(&[&bytes[..], &[0; 3]].concat()).unwrap();
        let found = header.metadata.unwrap_or_default();
        let wanted: Vec<_> = metadata.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(found, wanted, "in their order");
        header.data_at
    };
    assert_eq!(rewrite(&[], 64), 64);
    assert_eq!(rewrite(&[("z", "1"), ("a", "2")], 64), 64 + 4096);
    assert_eq!(rewrite(&[], 64 + 4096), 64, "and back");
    assert_eq!(rewrite(&[("k", &"x".repeat(5000))], 8200), 8200);
    // One that was not aligned has no place worth keeping.
    assert_eq!(rewrite(&[], 65), 64);
}
