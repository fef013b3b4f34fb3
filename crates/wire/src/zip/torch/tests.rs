use super::*;
use crate::testing::file;
use crate::zip::Directory;
use modelferry_core::inputs::{Inputs, Window};
use modelferry_core::limits::Limits;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A local header whose entry has a ten byte name, in hexadecimal.
fn local(flags: &str, extra_len: &str, idx: u32, zip64: &str, fill: u8) -> String {
    let name = hex(format!("big/data/{idx}").as_bytes());
    let zeros = "0".repeat(36);
    let fill_len = hex(&u16::from(fill).to_le_bytes());
    let fill = "5a".repeat(fill.into());
    format!("504b03040000{flags}{zeros}0a00{extra_len}{name}{zip64}4642{fill_len}{fill}")
}

// What torch 2.15 writes for `PyTorchFileWriter("big.pt")`, `write_record_metadata(name, len)` for each, without having
// the bytes.
#[test]
fn records_on_both_sides_of_4_gib_are_torchs() {
    let mut writer = TorchWriter::default();
    let sizes = [3, (1 << 32) + 5, (1 << 32) - 1, (1 << 32) - 2, 56, 0];
    let placed: Vec<TorchPlaced> = sizes
        .into_iter()
        .enumerate()
        .map(|(idx, len)| writer.add(&format!("big/data/{idx}"), len).unwrap())
        .collect();
    let data_at: Vec<u64> = placed.iter().map(|placed| placed.data_at).collect();
    assert_eq!(data_at, [64, 192, 4_294_967_616, 8_589_935_040, 12_884_902_464, 12_884_902_656]);
    let headers: Vec<String> = placed.iter().map(|placed| hex(&placed.header)).collect();
    let expected = [
        local("0808", "1800", 0, "", 20),
        local("0808", "4500", 1, "0100100005000000010000000500000001000000", 45).replace(
            // In the local header lengths are zeros even here.
            "0100100005000000010000000500000001000000",
            "0100100005000000010000000000000000000000",
        ),
        local("0808", "3b00", 2, "01001800ffffffff000000000000000000000000dd00000001000000", 27),
        local("0808", "4100", 3, "010008005701000002000000", 49),
        local("0808", "4200", 4, "01000800d601000003000000", 50),
        local("0008", "4800", 5, "010008009002000003000000", 56),
    ];
    assert_eq!(headers, expected);
    let descriptors: Vec<String> = placed.iter().map(|placed| hex(&placed.descriptor)).collect();
    let expected = [
        "504b0708000000000300000003000000",
        "504b07080000000005000000010000000500000001000000",
        "504b070800000000ffffffff00000000ffffffff00000000",
        "504b070800000000feffffff00000000feffffff00000000",
        "504b07080000000038000000000000003800000000000000",
        "",
    ];
    assert_eq!(descriptors, expected);
    for (name, len) in [("big/version", 2), ("big/byteorder", 6), ("big/.data/serialization_id", 40)] {
        writer.add(name, len).unwrap();
    }
    let finished = writer.finish().unwrap();
    let directory = hex(&finished.bytes);
    assert!(directory.starts_with(concat!(
        "504b010200000000080800000000000000000000030000000300000",
        "00a0000000000000000000000000000000000",
        "6269672f646174612f30",
        "504b010200000000080800000000000000000000ffffffffffffffff0a00140000000000000000000000530000006269672f64617461",
        "2f310100100005000000010000000500000001000000",
        "504b010200000000080800000000000000000000ffffffffffffffff0a001c0000000000000000000000ffffffff6269672f64617461",
        "2f3201001800ffffffff00000000ffffffff00000000dd00000001000000",
        "504b010200000000080800000000000000000000fefffffffeffffff0a000c0000000000000000000000ffffffff6269672f64617461",
        "2f33010008005701000002000000",
        "504b01020000000008080000000000000000000038000000380000000a000c0000000000000000000000ffffffff6269672f64617461",
        "2f3401000800d601000003000000",
        "504b01020000000000080000000000000000000000000000000000000a000c0000000000000000000000ffffffff6269672f64617461",
        "2f35010008009002000003000000",
    )));
    assert!(directory.ends_with(concat!(
        "504b06062c000000000000001e032d00000000000000000009000000000000000900000000000000",
        "84020000000000008004000003000000",
        "504b060700000000040700000300000001000000",
        "504b0506000000000900090084020000ffffffff0000",
    )));
    assert_eq!((finished.at, finished.bytes.len()), (12_884_903_040, 12_884_903_782 - 12_884_903_040));
}

#[test]
fn a_small_archive_is_read_by_us() {
    let mut writer = TorchWriter::default();
    let payloads: [(&str, &[u8]); 3] = [("é/data.pkl", b"12345"), ("é/data/0", b""), ("é/version", b"3\n")];
    let mut bytes = vec![];
    for (name, payload) in payloads {
        let placed = writer.add(name, payload.len() as u64).unwrap();
        bytes.extend_from_slice(&placed.header);
        assert_eq!((bytes.len() as u64, placed.data_at % 64), (placed.data_at, 0));
        bytes.extend_from_slice(payload);
        assert_eq!(placed.crc.map(|(at, _)| at), (!payload.is_empty()).then_some(bytes.len() as u64 + 4));
        bytes.extend_from_slice(&placed.descriptor);
    }
    let finished = writer.finish().unwrap();
    assert_eq!(finished.at, bytes.len() as u64);
    bytes.extend_from_slice(&finished.bytes);
    let inputs = file(bytes);
    let whole = Window { file: inputs.root(), at: 0, len: inputs.len(inputs.root()) };
    let directory = Directory::read(&inputs, whole, &Limits::default()).unwrap();
    let found: Vec<(&str, u64)> =
        directory.entries.iter().map(|entry| (&*entry.name, directory.data(entry).len)).collect();
    assert_eq!(found, [("é/data.pkl", 5), ("é/data/0", 0), ("é/version", 2)]);
}

#[test]
fn what_zip_cannot_hold_is_refused() {
    let mut writer = TorchWriter::default();
    let fault = |result: Result<TorchPlaced>| result.unwrap_err().to_string();
    assert_eq!(
        fault(writer.add("a\0", 1)),
        "a zip archive cannot hold entry \"a\\0\": its name contains a NUL"
    );
    let end = "a zip archive cannot hold entry \"a\": the archive is too large";
    assert_eq!(fault(writer.add("a", u64::MAX)), end);
    writer.add("a", u64::MAX - 1000).unwrap();
    assert_eq!(fault(writer.add("a", 1000)), end);
}
