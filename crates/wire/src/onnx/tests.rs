use super::fields::{put_varint, varint};
use super::*;
use crate::testing::{Rng, every_bit_flip_returns, every_prefix_fails, file, same_messages};
use modelferry_core::DType;
use modelferry_core::inputs::{FileId, Inputs, MemInputs};
use modelferry_core::limits::Limits;

mod coded;

/// A field that holds bytes.
fn sub(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut message = Message::default();
    message.bytes(number, bytes);
    flat(message)
}

fn int(number: u32, value: i64) -> Vec<u8> {
    let mut message = Message::default();
    message.int(number, value);
    flat(message)
}

fn flat(message: Message) -> Vec<u8> {
    let bytes = |part| match part {
        Part::Bytes(bytes) => bytes,
        Part::Tensor { len, .. } => vec![0xaa; len as usize],
    };
    message.into_parts().into_iter().flat_map(bytes).collect()
}

/// A tensor of two numbers.
fn tensor(name: &str, fields: &[u8]) -> Vec<u8> {
    [int(1, 2), int(2, 1), fields.to_vec(), sub(8, name.as_bytes())].concat()
}

fn model(graph: &[u8]) -> Vec<u8> {
    [int(1, 8), sub(8, &int(2, 17)), sub(7, graph)].concat()
}

fn read(bytes: &[u8]) -> modelferry_core::Result<Document> {
    Document::read(&file(bytes), FileId(0), &Limits::default())
}

#[test]
fn varints_come_back() {
    let mut rng = Rng::new(1);
    for shift in 0..64 {
        for value in [1 << shift, (1u64 << shift) - 1, u64::MAX >> shift, rng.next() >> shift] {
            let mut bytes = vec![];
            put_varint(&mut bytes, value);
            assert_eq!(varint(&bytes).unwrap(), Some((value, bytes.len())));
            assert_eq!(varint(&bytes[..bytes.len() - 1]).unwrap(), None);
        }
    }
    // Zeros behind a number are allowed, a 65th bit is not.
    assert_eq!(varint(&[0x81, 0x80, 0x00]).unwrap(), Some((1, 3)));
    assert!(varint(&[0xff; 10]).is_err());
    assert!(varint(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).is_err());
    assert!(varint(&[0xff; 9]).unwrap().is_none());
}

#[test]
fn what_is_not_payload_stays() {
    let raw = sub(9, &[1, 2, 3, 4, 5, 6, 7, 8]);
    let unknown = [sub(77, b"unknown"), int(78, 5)].concat();
    let weight = [tensor("w", &raw), unknown.clone()].concat();
    let graph = [sub(5, &weight), sub(2, b"g"), unknown.clone()].concat();
    let bytes = [model(&graph), unknown].concat();
    let document = read(&bytes).unwrap();
    // Only the ten bytes of the field with the elements are gone, and lengths around it say so.
    assert_eq!(document.body.len(), bytes.len() - raw.len());
    let [found] = &document.tensors[..] else { panic!("{:?}", document.tensors) };
    assert_eq!((found.name.as_str(), found.dtype, &found.shape[..]), ("w", DType::F32, &[2][..]));
    let Payload::Raw { at, len } = found.payload else { panic!("{found:?}") };
    assert_eq!(&bytes[at as usize..][..len as usize], [1, 2, 3, 4, 5, 6, 7, 8]);
    // The place is where the field was: the name follows.
    assert!(document.body[found.at as usize..].starts_with(&sub(8, b"w")));
    let whole = [&document.body[..found.at as usize], &raw, &document.body[found.at as usize..]].concat();
    assert_eq!(whole.len(), bytes.len());
}

#[test]
fn numbers_are_found_packed_and_not() {
    let floats = [1.0f32, -2.0].map(f32::to_le_bytes).concat();
    let one_by_one = [vec![0x25], floats[..4].to_vec(), vec![0x25], floats[4..].to_vec()].concat();
    for (fields, runs) in [
        (sub(4, &floats), 1),
        (one_by_one.clone(), 1),
        ([sub(4, &floats[..4]), one_by_one[5..].to_vec()].concat(), 2),
    ] {
        let document = read(&model(&sub(5, &tensor("w", &fields)))).unwrap();
        let Payload::Typed { values: Values::Fixed(4), runs: found } = &document.tensors[0].payload else {
            panic!("{:?}", document.tensors)
        };
        assert_eq!(found.len(), runs);
        let n: u64 =
            found.iter().map(|run| if run.tag.is_some() { run.n } else { (run.end - run.at) / 4 }).sum();
        assert_eq!(n, 2);
    }
}

#[test]
fn names_are_told_apart_by_the_way() {
    let raw = sub(9, &[0; 8]);
    let inner = sub(5, &tensor("w", &raw));
    let branch = |name: &str| sub(5, &[sub(1, name.as_bytes()), sub(6, &inner)].concat());
    let choose = [sub(3, b"choose"), sub(4, b"If"), branch("then_branch"), branch("else_branch")].concat();
    let nameless = [sub(4, b"If"), branch("then_branch")].concat();
    let constant =
        [sub(2, b"w"), sub(4, b"Constant"), sub(5, &[sub(1, b"value"), sub(5, &tensor("", &raw))].concat())];
    let document = read(&model(
        &[sub(1, &choose), sub(1, &nameless), sub(1, &nameless), sub(1, &constant.concat())].concat(),
    ));
    let names: Vec<String> = document.unwrap().tensors.into_iter().map(|found| found.name).collect();
    // The main graph's own name is its tensor's, wherever that stands.
    assert_eq!(
        names,
        ["choose.then_branch.w", "choose.else_branch.w", "If.then_branch.w", "If.then_branch.w.2", "w"]
    );
}

#[test]
fn a_graph_in_the_middle_of_payload_is_not_looked_at() {
    // Payload that looks like a document, and is many times larger than what is read at once.
    let payload = model(&sub(2, b"no")).repeat(20_000);
    let n = payload.len() / 4;
    let payload = &payload[..n * 4];
    let weight = [int(1, n as i64), int(2, 1), sub(8, b"w"), sub(9, payload)].concat();
    struct Watched(MemInputs, std::sync::atomic::AtomicU64);
    impl Inputs for Watched {
        fn root(&self) -> FileId {
            FileId(0)
        }
        fn open(&self, name: &str) -> modelferry_core::Result<FileId> {
            self.0.open(name)
        }
        fn list(&self, folder: &str) -> modelferry_core::Result<Vec<String>> {
            self.0.list(folder)
        }
        fn name(&self, file: FileId) -> String {
            self.0.name(file)
        }
        fn len(&self, file: FileId) -> u64 {
            self.0.len(file)
        }
        fn read_at(&self, file: FileId, offset: u64, out: &mut [u8]) -> modelferry_core::Result<()> {
            self.1.fetch_add(out.len() as u64, std::sync::atomic::Ordering::Relaxed);
            self.0.read_at(file, offset, out)
        }
    }
    let inputs = Watched(file(model(&[sub(5, &weight), sub(2, b"g")].concat())), Default::default());
    let document = Document::read(&inputs, FileId(0), &Limits::default()).unwrap();
    assert_eq!(document.tensors.len(), 1);
    assert!(identify(&inputs, FileId(0)));
    let n_read = inputs.1.into_inner();
    assert!(n_read < 40_000, "{n_read} of {} bytes", payload.len());
}

#[test]
fn damage_is_an_error() {
    let raw = sub(9, &[0; 8]);
    let constant =
        [sub(2, b"c"), sub(4, b"Constant"), sub(5, &[sub(1, b"value_ints"), sub(8, &[1, 2, 3])].concat())];
    let bytes = model(&[sub(1, &constant.concat()), sub(5, &tensor("w", &raw)), sub(2, b"g")].concat());
    assert!(read(&bytes).is_ok());
    every_prefix_fails(&bytes, |bytes| read(bytes).is_ok());
    every_bit_flip_returns(&bytes, |bytes| read(bytes).is_ok());
}

#[test]
fn locations() {
    let entry = |key: &str, value: &str| messages::Entry { key: Some(key.into()), value: Some(value.into()) };
    let parse = |entries: &[(&str, &str)]| {
        let entries: Vec<_> = entries.iter().map(|(key, value)| entry(key, value)).collect();
        External::parse(&entries)
    };
    let found = parse(&[("location", "a b/w.data"), ("length", "8"), ("basepath", "/x"), ("offset", "0016")])
        .unwrap();
    assert_eq!((found.location.as_str(), found.offset, found.length), ("a b/w.data", 16, Some(8)));
    let sha1 = "00112233445566778899aabbccddeeff00112233";
    let found = parse(&[("location", "w"), ("checksum", sha1)]).unwrap();
    assert_eq!(found.sha1().map(|sha1| sha1[..3].to_vec()), Some(vec![0, 0x11, 0x22]));
    assert_eq!(parse(&[("location", "w"), ("checksum", "md5")]).unwrap().sha1(), None);
    let said = |entries: &[(&str, &str)]| parse(entries).unwrap_err().to_string();
    same_messages([
        (said(&[]), "external data names no file, expected a location"),
        (said(&[("location", "/a")]), "external data has an absolute location, found \"/a\""),
        (said(&[("location", "c:a")]), "external data has an absolute location, found \"c:a\""),
        (said(&[("location", "a/..")]), "external data leads out of the model's folder, found \"a/..\""),
        (
            said(&[("location", "*/_ORT_MEM_ADDR_/*")]),
            "external data lies in the memory of another process, found \"*/_ORT_MEM_ADDR_/*\"",
        ),
        (
            said(&[("location", "a"), ("offset", " 1")]),
            "external data has an unusable offset, expected a whole number, found \" 1\"",
        ),
        (
            said(&[("location", "a"), ("location", "a")]),
            "external data says something twice, found \"location\"",
        ),
    ]);
}

#[test]
fn every_type_has_one_number() {
    let known: Vec<DType> = DType::all().filter(|dtype| element(*dtype).is_some()).collect();
    assert_eq!(known.len(), 25);
    for dtype in known {
        let number = data_type(dtype).unwrap();
        assert_eq!(from_data_type(number).map(|element| element.dtype), Some(dtype));
    }
    assert!(from_data_type(8).is_none() && from_data_type(0).is_none() && from_data_type(27).is_none());
}

#[test]
fn messages_hold_room_for_payload() {
    let mut inner = Message::default();
    inner.int(1, -1);
    inner.tensor(9, 3, 200);
    inner.raw(&[0x10, 1]);
    let mut outer = Message::default();
    outer.message(5, inner);
    outer.bytes(2, b"g");
    assert_eq!(outer.len(), 3 + 11 + 3 + 200 + 2 + 3);
    let parts = outer.into_parts();
    assert!(matches!(&parts[..], [Part::Bytes(_), Part::Tensor { idx: 3, len: 200 }, Part::Bytes(_)]));
    assert_eq!(parts[2], Part::Bytes(vec![0x10, 1, 0x12, 1, b'g']));
}
