//! Checkpoints put together byte by byte.

use super::*;
use crate::testing::{every_bit_flip_returns, every_prefix_fails, file, same_messages};
use crate::zip::{Member, Padding, Writer};
use modelferry_core::inputs::FileId;
use modelferry_core::model::Model;
use modelferry_core::plugin::{Answer, Query};

mod containers;
mod tensors;

/// A host that knows what every deflated record holds, because there is one at most.
#[derive(Default)]
struct Asked {
    limits: Limits,
    inflated: Vec<u8>,
    n_asked: usize,
}

impl Host for Asked {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn ask(&mut self, _: &Model, query: Query) -> Result<Answer> {
        let Query::Small { at, len, .. } = query else { panic!("{query:?}") };
        assert!(len <= 1 << 20);
        self.n_asked += 1;
        Ok(Answer::Bytes(self.inflated[at as usize..][..len as usize].to_vec()))
    }
}

fn parse(bytes: &[u8]) -> Result<Checkpoint> {
    let inputs = file(bytes);
    let window = Window { file: FileId(0), at: 0, len: bytes.len() as u64 };
    read(&inputs, window, &mut Asked::default())
}

#[track_caller]
fn fails(bytes: &[u8]) -> String {
    parse(bytes).map(|checkpoint| checkpoint.kind).unwrap_err().to_string()
}

type Records<'a> = &'a [(&'a str, &'a [u8])];

/// An archive of stored records that states no checksums.
fn archive(root: &str, records: Records<'_>) -> Vec<u8> {
    let mut writer = Writer::default();
    let mut bytes = Vec::new();
    for (name, data) in records {
        let name = &format!("{root}{name}");
        let member = Member {
            name,
            len: data.len() as u64,
            align: 64,
            padding: Padding::Torch,
            local_extra: &[],
            central_extra: &[],
        };
        bytes.extend(writer.add(member).unwrap().header);
        bytes.extend_from_slice(data);
    }
    bytes.extend(writer.finish().unwrap().bytes);
    bytes
}

/// The persistent id of a storage.
fn storage(class: &str, key: &str, n_elements: u8) -> Vec<u8> {
    let (module, name) = class.split_once(' ').unwrap();
    [
        b"(U\x07storagec",
        module.as_bytes(),
        b"\n",
        name.as_bytes(),
        b"\n",
        &text(key),
        b"U\x03cpuK",
        &[n_elements],
        b"tQ",
    ]
    .concat()
}

fn text(text: &str) -> Vec<u8> {
    [b"U", &[text.len() as u8][..], text.as_bytes()].concat()
}

/// `_rebuild_tensor_v2` of a storage.
fn v2(storage: &[u8], offset: u8, size: &[u8], stride: &[u8]) -> Vec<u8> {
    let numbers = |numbers: &[u8]| {
        [b"(".to_vec(), numbers.iter().flat_map(|&n| [b'K', n]).collect(), b"t".to_vec()].concat()
    };
    let offset = [b'K', offset];
    let parts: [&[u8]; 6] = [
        b"ctorch._utils\n_rebuild_tensor_v2\n(",
        storage,
        &offset,
        &numbers(size),
        &numbers(stride),
        b"\x89NtR",
    ];
    parts.concat()
}

/// A checkpoint whose object is what `pickle` leaves on the stack, and whose storages are these.
fn holding(pickle: &[u8], storages: Records<'_>) -> Vec<u8> {
    let pickle = [b"\x80\x02", pickle, b"."].concat();
    let names: Vec<String> = storages.iter().map(|(key, _)| format!("data/{key}")).collect();
    let mut records: Vec<(&str, &[u8])> = vec![("data.pkl", &pickle), ("version", b"3\n")];
    records.extend(names.iter().zip(storages).map(|(name, (_, data))| (name.as_str(), *data)));
    archive("m/", &records)
}

/// What the root is.
fn root_of(bytes: &[u8]) -> Result<Option<TensorSpec>> {
    let checkpoint = parse(bytes)?;
    tensor(&checkpoint, checkpoint.tree.root().unwrap())
}
