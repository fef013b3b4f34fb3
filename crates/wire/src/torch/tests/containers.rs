//! Every kind of file that torch has written.

use super::*;
use modelferry_core::error::ErrorKind;
use std::io::Write as _;

/// The tensors of the entries of the root, by name: place, type, offset, extents.
fn shown_tensors(checkpoint: &Checkpoint) -> Vec<String> {
    let tree = &checkpoint.tree;
    let entries = tree.mapping(tree.root().unwrap()).unwrap();
    let shown = entries.iter().map(|&(name, value)| {
        let spec = tensor(checkpoint, value).unwrap();
        let Some(TensorSpec { data: Data::Strided(strided), .. }) = spec else { panic!("{spec:?}") };
        let (key, record) = &checkpoint.storages()[strided.storage];
        let at = record.window.at + strided.byte_offset();
        format!("{}: {} {:?} at {at} of {key}", tree.text(name).unwrap(), strided.element.name, strided.size)
    });
    shown.collect()
}

fn two_tensors() -> Vec<u8> {
    let float = storage("torch FloatStorage", "0", 6);
    [&b"}(U\x01a"[..], &v2(&float, 0, &[2, 3], &[3, 1]), b"U\x01b", &v2(&float, 3, &[3], &[1]), b"u"].concat()
}

#[test]
fn an_archive_under_any_name() {
    let pickle = [&two_tensors()[..], b"."].concat();
    for root in ["archive/", "a/", "ü/"] {
        let bytes = archive(
            root,
            &[
                ("data.pkl", &pickle),
                ("byteorder", b"big"),
                ("data/0", &[7; 24]),
                ("version", b"3\n"),
                (".data/serialization_id", b"1"),
            ],
        );
        let checkpoint = parse(&bytes).unwrap();
        assert_eq!((checkpoint.kind, checkpoint.byte_order), (Kind::Zip, ByteOrder::Big));
        let record = checkpoint.storage("0").unwrap();
        assert_eq!((record.len, record.crc32, record.method), (24, None, Method::Stored));
        assert_eq!(bytes[record.window.at as usize..][..24], [7; 24]);
        let at = record.window.at;
        assert_eq!(
            shown_tensors(&checkpoint),
            [format!("a: float32 [2, 3] at {at} of 0"), format!("b: float32 [3] at {} of 0", at + 12),]
        );
        let others: Vec<&str> = checkpoint.other.iter().map(|(name, _)| &**name).collect();
        assert_eq!(others, [".data/serialization_id", "byteorder", "data.pkl", "version"]);
        assert_eq!(checkpoint.storage("1"), None);
    }
}

#[test]
fn an_archive_in_the_middle_of_a_file() {
    let bytes = holding(&two_tensors(), &[("0", &[7; 24])]);
    let inputs = file([&[9; 100][..], &bytes, &[9; 10]].concat());
    let window = Window { file: FileId(0), at: 100, len: bytes.len() as u64 };
    let checkpoint = read(&inputs, window, &mut Asked::default()).unwrap();
    let mut data = [0; 24];
    inputs.read_at(FileId(0), checkpoint.storage("0").unwrap().window.at, &mut data).unwrap();
    assert_eq!(data, [7; 24]);
    let past = Window { len: 1 << 40, ..window };
    assert_eq!(read(&inputs, past, &mut Asked::default()).unwrap_err().kind(), ErrorKind::Malformed);
}

#[test]
fn deflated_records_are_asked_for() {
    let pickle = [&b"\x80\x02"[..], &two_tensors(), &b"(1".repeat(1 << 20), b"."].concat();
    let mut writer = ::zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let deflated =
        ::zip::write::SimpleFileOptions::default().compression_method(::zip::CompressionMethod::Deflated);
    let stored = deflated.compression_method(::zip::CompressionMethod::Stored);
    for (name, data, options) in [
        ("m/data.pkl", &pickle[..], deflated),
        ("m/data/0", &[7; 24], deflated),
        ("m/version", b"3", stored),
        ("__MACOSX/data.pkl", b"junk", stored),
    ] {
        writer.start_file(name, options).unwrap();
        writer.write_all(data).unwrap();
    }
    let inputs = file(writer.finish().unwrap().into_inner());
    let window = Window { file: FileId(0), at: 0, len: inputs.len(FileId(0)) };
    let mut host = Asked { inflated: pickle.clone(), ..Asked::default() };
    let checkpoint = read(&inputs, window, &mut host).unwrap();
    assert_eq!(host.n_asked, pickle.len().div_ceil(1 << 20));
    let record = checkpoint.storage("0").unwrap();
    assert_eq!((record.method, record.len), (Method::Deflated, 24));
    assert!(record.crc32.is_some() && record.window.len < 24);
    // What other programs left beside the folder is not mistaken for what is in it.
    assert!(checkpoint.other.iter().any(|(name, _)| &**name == "/__MACOSX/data.pkl"));

    host.limits.header_bytes = 1 << 20;
    let error = read(&inputs, window, &mut host).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    let mut broken = Asked { inflated: vec![b'.'; pickle.len()], ..Asked::default() };
    let error = read(&inputs, window, &mut broken).unwrap_err().to_string();
    assert!(error.starts_with("m: byte "), "{error}");
}

#[test]
fn archives_that_are_refused() {
    let n: &[u8] = b"N.";
    let cases: [(Records<'_>, &str); 9] = [
        (&[("a/data.pkl", n)], "m: byte 0: the archive has no record \"version\""),
        (&[("a/version", b"3")], "m: byte 0: the archive has no record \"data.pkl\""),
        (
            &[("data.pkl", n), ("version", b"3")],
            "m: byte 0: the archive's records lie in no folder, found \"data.pkl\"",
        ),
        (
            &[("a/data.pkl", n), ("a/version", b"11\n")],
            "m: byte 128: the archive is of a version that we do not know, expected 1 to 10, found \"11\"",
        ),
        (
            &[("a/data.pkl", n), ("a/version", b"x")],
            "m: byte 128: the archive is of a version that we do not know, expected 1 to 10, found \"x\"",
        ),
        (
            &[("a/data.pkl", n), ("a/version", b"3"), ("a/byteorder", b"little\n")],
            "m: byte 192: the archive's byte order is none, expected \"little\" or \"big\", found \"little\\n\"",
        ),
        (
            &[("a/data.pkl", b"N.N"), ("a/version", b"3")],
            "m: byte 66: bytes follow what was saved, found 1 bytes",
        ),
        (
            &[("a/data.pkl", n), ("a/version", b"3"), ("a/DATA.PKL", n)],
            "m: byte 129: entry \"a/DATA.PKL\": its name differs from another's in case only, found \"a/data.pkl\" too",
        ),
        (&[], "m: the archive is empty"),
    ];
    same_messages(cases.map(|(records, expected)| (fails(&archive("", records)), expected)));
    assert_eq!(
        fails(b"PYTORCH1 and so on"),
        "m: archives of the release candidate of torch 1.0 are not read"
    );
}

#[test]
fn torchscript_is_told_by_its_constants() {
    let module = [
        &b"c__torch__.m\nNet\n)\x81}(U\x06weight"[..],
        &v2(&storage("torch FloatStorage", "0", 1), 0, &[], &[]),
        b"U\x08trainingI01\nub.",
    ]
    .concat();
    let bytes = archive(
        "net/",
        &[("data/0", &[0; 4]), ("data.pkl", &module), ("constants.pkl", b"\x80\x02)."), ("version", b"3\n")],
    );
    let checkpoint = parse(&bytes).unwrap();
    assert_eq!(checkpoint.kind, Kind::TorchScript);
    let tree = &checkpoint.tree;
    let root = tree.instance(tree.root().unwrap()).unwrap();
    assert_eq!(tree.global(root.callable), Some(("__torch__.m", "Net")));
    let state = tree.mapping(root.states[0]).unwrap();
    assert!(tensor(&checkpoint, state[0].1).unwrap().is_some());
}

#[test]
fn raw_pickles_are_whole_files() {
    assert_eq!(parse(b"}.").unwrap().kind, Kind::Pickle);
    assert_eq!(fails(b"}.}"), "m: byte 2: bytes follow what was saved, found 1 bytes");
    assert_eq!(fails(b""), "m: byte 0: the data is cut short, expected 1 bytes more, found 0 bytes");
}

const MAGIC: &[u8] = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.";
const SYS_INFO: &[u8] = b"\x80\x02}(U\x10protocol_versionM\xe9\x03U\rlittle_endian\x89u.";

/// Keys "1" and "2" of two tensors, listed in the order `keys`.
fn legacy(keys: &[u8], data: &[&[u8]]) -> Vec<u8> {
    let view = b"(U\x07storagectorch\nFloatStorage\nU\x012U\x03cpuK\x04(U\x01vK\x01K\x02ttQ";
    let object = [
        &b"\x80\x02}(U\x01a"[..],
        &v2(&storage("torch LongStorage", "1", 2), 0, &[2], &[1]),
        b"U\x01b",
        &v2(&storage("torch FloatStorage", "2", 4), 0, &[4], &[1]),
        b"U\x01v",
        &v2(view, 1, &[1], &[1]),
        b"u.",
    ]
    .concat();
    [MAGIC, SYS_INFO, &object, b"\x80\x02](", keys, b"e.", &data.concat()].concat()
}

fn counted(n: u64, n_bytes: usize) -> Vec<u8> {
    [&n.to_le_bytes()[..], &vec![5; n_bytes]].concat()
}

#[test]
fn the_stream_before_1_6() {
    let bytes = legacy(b"U\x012U\x011", &[&counted(4, 16), &counted(2, 16)]);
    let checkpoint = parse(&bytes).unwrap();
    // What the machine was makes no difference to the bytes.
    assert_eq!((checkpoint.kind, checkpoint.byte_order), (Kind::Legacy, ByteOrder::Little));
    let end = bytes.len();
    assert_eq!(
        shown_tensors(&checkpoint),
        [
            format!("a: int64 [2] at {} of 1", end - 16),
            format!("b: float32 [4] at {} of 2", end - 40),
            format!("v: float32 [1] at {} of 2", end - 40 + 8),
        ]
    );
    every_prefix_fails(&bytes, |bytes| {
        // But for the first pickle, which is a pickle.
        parse(bytes).is_ok_and(|checkpoint| checkpoint.kind == Kind::Legacy)
    });
    every_bit_flip_returns(&bytes, every_tensor);
}

#[test]
fn streams_that_are_refused() {
    let (one, two) = (counted(2, 16), counted(4, 16));
    let cases: [(Vec<u8>, &str); 7] = [
        (legacy(b"U\x011U\x012", &[&one, &two, &[0]]), "bytes follow what was saved, found 1 bytes"),
        (legacy(b"U\x011", &[&one]), "a storage is referred to and not there, found \"2\""),
        (
            legacy(b"U\x011U\x011", &[&one, &one]),
            "a storage is listed twice, or belongs to nothing, found \"1\"",
        ),
        (legacy(b"U\x013", &[&one]), "a storage is listed twice, or belongs to nothing, found \"3\""),
        (legacy(b"N", &[&one]), "the key of a storage is no text"),
        (
            legacy(b"U\x011U\x012", &[&counted(u64::MAX, 16), &two]),
            "storage \"1\" has another length, expected 2 elements, found 18446744073709551615 elements",
        ),
        ([MAGIC, SYS_INFO, b"N.N."].concat(), "the keys of the storages are no list"),
    ];
    same_messages(cases.map(|(bytes, expected)| {
        let message = fails(&bytes);
        let what =
            message.split_once(": byte ").and_then(|(_, rest)| rest.split_once(": ")).map(|(_, what)| what);
        (what.unwrap_or(&message).to_owned(), expected)
    }));
    let other = [&MAGIC[..15], b"K\x01."].concat();
    assert_eq!(fails(&other), "m: byte 15: the stream is of a version that we do not know, expected 1001");
}

/// Headers as `tarfile` writes them, with the time in an extended one before each.
fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let block = |name: &str, kind: u8, data: &[u8]| {
        let mut header = [0u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..135].copy_from_slice(format!("{:011o}", data.len()).as_bytes());
        header[148..156].fill(b' ');
        header[156] = kind;
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let padding = vec![0; data.len().next_multiple_of(512) - data.len()];
        [&header[..], data, &padding].concat()
    };
    let mut bytes = Vec::new();
    for (name, data) in members {
        bytes.extend(block(&format!("PaxHeaders/{name}"), b'x', b"13 mtime=1.5\n"));
        bytes.extend(block(name, b'0', data));
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes.resize(bytes.len().next_multiple_of(10240), 0);
    bytes
}

#[test]
fn the_tar_of_torch_0_1() {
    let described = |numbers: &[i64]| -> Vec<u8> {
        let rank = (numbers.len() as u32 - 1) / 2;
        let numbers = numbers.iter().flat_map(|n| n.to_le_bytes());
        rank.to_le_bytes().into_iter().chain(*b"junk").chain(numbers).collect()
    };
    let storages = [
        &b"K\x02.(Ko\x8c\x03cpuctorch\nFloatStorage\nt."[..],
        &counted(6, 24),
        b"(K\xde\x8c\x03cpuctorch\nLongStorage\nt.",
        &counted(2, 16),
        // The second half of the first is a storage of its own.
        b"]((K\x07KoK\x03K\x03te.",
    ]
    .concat();
    let tensors = [
        &b"K\x03.(K\x01Koctorch\nFloatTensor\nt."[..],
        &described(&[2, 3, 3, 1, 0]),
        b"(K\x02K\xdectorch\nLongTensor\nt.",
        &described(&[2, 1, 0]),
        b"(K\x03K\x07ctorch\nFloatTensor\nt.",
        &described(&[2, 1, 1]),
    ]
    .concat();
    let objects = b"\x80\x02}(U\x01aU\x011QU\x01bK\x02QU\x01vK\x03QU\x02a2K\x01Qu.";
    let members: [(&str, &[u8]); 4] =
        [("sys_info", b"}."), ("pickle", objects), ("tensors", &tensors), ("storages", &storages)];
    let bytes = tar(&members);
    let checkpoint = parse(&bytes).unwrap();
    assert_eq!(checkpoint.kind, Kind::Tar);
    let at = |key| checkpoint.storage(key).unwrap().window.at;
    assert_eq!(bytes[at("111") as usize..][..24], [5; 24]);
    assert_eq!(
        shown_tensors(&checkpoint),
        [
            format!("a: float32 [2, 3] at {} of 111", at("111")),
            format!("b: int64 [2] at {} of 222", at("222")),
            format!("v: float32 [2] at {} of 111", at("111") + 16),
            format!("a2: float32 [2, 3] at {} of 111", at("111")),
        ]
    );
    for without in 1..4 {
        let mut fewer = members.to_vec();
        let (name, _) = fewer.remove(without);
        assert_eq!(fails(&tar(&fewer)), format!("m: byte 0: the archive has no member {name:?}"));
    }
    let unknown = b"\x80\x02K\x09Q.";
    let other = tar(&[members[0], ("pickle", unknown), members[2], members[3]]);
    assert_eq!(fails(&other), "m: a tensor or storage is referred to and not there, found \"9\"");
    every_bit_flip_returns(&bytes, every_tensor);
}

const WEIGHT: &str = r#"{"path_name": "weight_0", "is_param": true, "use_pickle": false, "tensor_meta": {"dtype": 7,
    "sizes": [{"as_int": 2}], "requires_grad": true, "device": {"type": "cpu", "index": null},
    "strides": [{"as_int": 1}], "storage_offset": {"as_int": 1}, "layout": 7}}"#;

fn exported(config: &str) -> Vec<u8> {
    archive(
        "m/",
        &[
            ("data/weights/weight_0", &[0; 12]),
            ("data/weights/model_weights_config.json", config.as_bytes()),
            ("models/model.json", b"{}"),
            ("archive_format", b"pt2"),
            (".data/version", b"6\n"),
        ],
    )
}

#[test]
fn exported_programs_hold_weights_by_name() {
    let config = format!(r#"{{"config": {{"z.weight": {WEIGHT}, "a": {WEIGHT}}}}}"#);
    let checkpoint = parse(&exported(&config)).unwrap();
    assert_eq!(checkpoint.kind, Kind::Exported);
    let at = checkpoint.storage("weight_0").unwrap().window.at + 4;
    assert_eq!(
        shown_tensors(&checkpoint),
        [format!("z.weight: float32 [2] at {at} of weight_0"), format!("a: float32 [2] at {at} of weight_0"),]
    );
    let cases = [
        (WEIGHT.replace("false", "true"), "a weight that was saved as a pickle of its own is not read"),
        (WEIGHT.replace("\"layout\": 7", "\"layout\": 1"), "a weight is not a strided tensor, found 1"),
        (
            WEIGHT.replace("\"dtype\": 7", "\"dtype\": 99"),
            "a weight is of a type that we do not know, found 99",
        ),
        (WEIGHT.replace("weight_0", "weight_1"), "the bytes of a weight are not there, found \"weight_1\""),
    ];
    same_messages(cases.map(|(weight, expected)| {
        let message = fails(&exported(&format!(r#"{{"config": {{"w": {weight}}}}}"#)));
        let what = message.rsplit_once(": ").map_or("", |(_, what)| what).to_owned();
        assert!(message.contains("tensor \"w\": "), "{message}");
        (what, expected)
    }));
    let twice = fails(&exported(&format!(r#"{{"config": {{"w": {WEIGHT}, "w": {WEIGHT}}}}}"#)));
    assert!(twice.ends_with("two weights have this name"), "{twice}");
    assert!(fails(&exported("{")).contains("model_weights_config.json"));
}

#[test]
fn old_exported_programs_hold_an_archive() {
    let inner = holding(&two_tensors(), &[("0", &[7; 24])]);
    let outer =
        archive("", &[("serialized_exported_program.json", b"{}"), ("serialized_state_dict.pt", &inner)]);
    let checkpoint = parse(&outer).unwrap();
    assert_eq!(checkpoint.kind, Kind::Exported);
    assert_eq!(outer[checkpoint.storage("0").unwrap().window.at as usize..][..24], [7; 24]);
    // One within one within one is not followed.
    let again = archive("", &[("serialized_state_dict.pt", &outer)]);
    assert!(fails(&again).ends_with("lie in no folder, found \"serialized_exported_program.json\""));
}

fn every_tensor(bytes: &[u8]) -> bool {
    let Ok(checkpoint) = parse(bytes) else { return false };
    for (id, _) in checkpoint.tree.iter() {
        let _ = tensor(&checkpoint, id);
    }
    true
}

#[test]
fn no_archive_makes_it_panic() {
    let bytes = holding(&two_tensors(), &[("0", &[7; 24])]);
    every_prefix_fails(&bytes, |bytes| parse(bytes).is_ok());
    every_bit_flip_returns(&bytes, every_tensor);
}
