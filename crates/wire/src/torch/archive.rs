//! Zip archives: plain ones, those of TorchScript, those of `torch.export`.

use super::{Checkpoint, Kind, Record, exported, object_limits};
use crate::pickle::{self, Source};
use crate::shown;
use crate::zip::{Directory, Method};
use modelferry_core::error::{Error, Result};
use modelferry_core::expr::{ByteOrder, Codec};
use modelferry_core::inputs::{Inputs, Window};
use modelferry_core::limits::Limits;
use modelferry_core::model::Model;
use modelferry_core::plugin::{Answer, Host, Query};

/// Versions that torch 2.15 reads (`caffe2/serialize/versions.h`).
const VERSIONS: std::ops::RangeInclusive<u64> = 1..=10;
/// What is asked of the host at once.
const ASK_BYTES: u64 = 1 << 20;
/// Bytes of a record of which a word is expected.
const WORD_BYTES: u64 = 1 << 10;

/// The records of an archive below its root folder.
pub(super) struct Records {
    /// By name, sorted.
    records: Vec<(Box<str>, Record)>,
}

impl Records {
    pub(super) fn get(&self, name: &str) -> Option<&Record> {
        let idx = self.records.binary_search_by(|(other, _)| (**other).cmp(name)).ok()?;
        Some(&self.records[idx].1)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.records.iter().map(|(name, _)| &**name)
    }

    /// Takes out what `key` gives a key, and leaves the rest.
    pub(super) fn split(self, key: impl Fn(&str) -> Option<&str>) -> [Vec<(Box<str>, Record)>; 2] {
        let (mut storages, mut other) = (vec![], vec![]);
        for (name, record) in self.records {
            match key(&name) {
                Some(key) => storages.push((key.into(), record)),
                None => other.push((name, record)),
            }
        }
        [storages, other]
    }
}

pub(super) fn read(inputs: &dyn Inputs, window: Window, host: &mut dyn Host) -> Result<Checkpoint> {
    let directory = Directory::read(inputs, window, host.limits())?;
    directory.refuse_case_variants()?;
    match exported::old_state(&directory)? {
        Some(state) => {
            let inner = Directory::read(inputs, state, host.limits())?;
            inner.refuse_case_variants()?;
            let checkpoint = read_from(inputs, state, inner, host)?;
            Ok(Checkpoint { kind: Kind::Exported, ..checkpoint })
        }
        None => read_from(inputs, window, directory, host),
    }
}

fn read_from(
    inputs: &dyn Inputs,
    window: Window,
    directory: Directory,
    host: &mut dyn Host,
) -> Result<Checkpoint> {
    let records = records(directory)?;
    if let Some(version) = records.get("version").or_else(|| records.get(".data/version")) {
        let text = word(inputs, version, host)?;
        let number: Option<u64> = text.parse().ok();
        if number.is_none_or(|number| !VERSIONS.contains(&number)) {
            return Err(Error::unsupported("the archive is of a version that we do not know")
                .offset(version.window.at)
                .expected(format_args!("{} to {}", VERSIONS.start(), VERSIONS.end()))
                .found(format_args!("{:?}", shown(&text))));
        }
    } else {
        return Err(Error::malformed("the archive has no record \"version\"").offset(window.at));
    }
    let byte_order = match records.get("byteorder") {
        None => ByteOrder::Little,
        Some(record) => match &*raw_word(inputs, record, host)? {
            "little" => ByteOrder::Little,
            "big" => ByteOrder::Big,
            other => {
                return Err(Error::malformed("the archive's byte order is none")
                    .offset(record.window.at)
                    .expected("\"little\" or \"big\"")
                    .found(format_args!("{:?}", shown(other))));
            }
        },
    };
    let Some(&pickle) = records.get("data.pkl") else {
        if exported::is_one(&records) {
            return exported::read(inputs, window, records, byte_order, host);
        }
        return Err(Error::malformed("the archive has no record \"data.pkl\"").offset(window.at));
    };
    let kind = if records.get("constants.pkl").is_some() { Kind::TorchScript } else { Kind::Zip };
    let tree = match pickle.method {
        Method::Stored => {
            let mut source = Source::new(inputs, pickle.window);
            let tree = pickle::read(&mut source, &object_limits(host.limits(), window))?;
            super::all_read(&source)?;
            tree
        }
        Method::Deflated => {
            let bytes = bytes(inputs, &pickle, host.limits().header_bytes, host)?;
            let mut source = Source::memory(&bytes);
            let tree = pickle::read(&mut source, &object_limits(host.limits(), window)).and_then(|tree| {
                super::all_read(&source)?;
                Ok(tree)
            });
            tree.map_err(|error| error.offset(pickle.window.at))?
        }
    };
    let [storages, other] = records.split(|name| name.strip_prefix("data/").filter(|key| !key.is_empty()));
    Ok(Checkpoint { byte_order, other, ..Checkpoint::new(inputs, window, kind, tree, storages) })
}

/// What lies below the root folder, which is that of the first entry.
fn records(directory: Directory) -> Result<Records> {
    let file = directory.file;
    let root = match directory.entries.first() {
        Some(first) => match first.name.split_once('/') {
            Some((root, _)) => format!("{root}/"),
            None => {
                return Err(Error::malformed("the archive's records lie in no folder")
                    .offset(first.header_at)
                    .found(format_args!("{:?}", shown(&first.name))));
            }
        },
        None => return Err(Error::malformed("the archive is empty")),
    };
    let mut records = Vec::with_capacity(directory.entries.len());
    for entry in directory.entries {
        // torch looks at nothing outside of the folder, where other programs leave their own files.
        let name = match entry.name.strip_prefix(&root) {
            Some(name) => name.into(),
            None => format!("/{}", entry.name).into(),
        };
        let record = Record {
            window: Window { file, at: entry.data_at, len: entry.compressed_len },
            method: entry.method,
            len: entry.len,
            crc32: (entry.crc32 != 0).then_some(entry.crc32),
        };
        records.push((name, record));
    }
    records.sort_unstable_by(|one: &(Box<str>, Record), other| one.0.cmp(&other.0));
    Ok(Records { records })
}

/// The bytes of a record, of which there may be `limit`.
pub(super) fn bytes(
    inputs: &dyn Inputs,
    record: &Record,
    limit: u64,
    host: &mut dyn Host,
) -> Result<Vec<u8>> {
    let window = record.window;
    let place = |error: Error| error.offset(window.at);
    Limits::check("a part read whole is too large", record.len, limit).map_err(place)?;
    if record.method == Method::Stored {
        return inputs.read_vec(window.file, window.at, window.len, limit);
    }
    // A model of its own, so that the question costs the same however much was read before.
    let mut probe = Model::default();
    let deflated = probe.nodes.region(window.file, window.at, window.len).map_err(place)?;
    let node = probe.nodes.inflate(deflated, Codec::Deflate, record.len).map_err(place)?;
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < record.len {
        let at = bytes.len() as u64;
        let len = ASK_BYTES.min(record.len - at);
        let Answer::Bytes(piece) = host.ask(&probe, Query::Small { node, at, len }).map_err(place)? else {
            return Err(Error::plugin("a question for bytes was answered otherwise"));
        };
        if piece.len() as u64 != len {
            return Err(Error::plugin("a question for bytes was answered with another number of them"));
        }
        // Grows with what was really inflated, not with what the archive claims.
        bytes.try_reserve(piece.len()).map_err(|_| {
            place(Error::limit("out of memory").expected(format_args!("{} bytes", record.len)))
        })?;
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// A record that is one word.
fn raw_word(inputs: &dyn Inputs, record: &Record, host: &mut dyn Host) -> Result<String> {
    let bytes = bytes(inputs, record, WORD_BYTES, host)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A record that is one word, and perhaps a line feed.
fn word(inputs: &dyn Inputs, record: &Record, host: &mut dyn Host) -> Result<String> {
    Ok(raw_word(inputs, record, host)?.trim_ascii_end().to_owned())
}
