//! Everything that torch has saved: archives, streams, tar files.

use super::Reached;
use super::pickle::{self, whole};
use crate::check;
use crate::corpus::File;
use modelferry_core::inputs::{Inputs, MemInputs};
use modelferry_wire::pickle::Emitter;
use modelferry_wire::torch::{Checkpoint, Data, Packed, Strided, TensorSpec, read, tensor};
use modelferry_wire::zip::{Member, Padding, Writer};
use std::hash::{DefaultHasher, Hash, Hasher};

/// The input is a file.
pub(super) fn check(input: &[u8]) -> Result<Reached, String> {
    let inputs = MemInputs::new("made.pt", input);
    let both = [0, 1].map(|_| {
        let mut host = check::EngineHost::new(&inputs);
        read(&inputs, whole(&inputs), &mut host)
    });
    let checkpoint = match both {
        [Ok(checkpoint), Ok(again)] if judged(&checkpoint)? == judged(&again)? => checkpoint,
        [Err(error), Err(again)] if error.to_string() == again.to_string() => return check::refusal(&error),
        _ => return Err("read twice, it is two checkpoints".to_owned()),
    };
    let records = checkpoint.storages().iter().chain(&checkpoint.other);
    for (name, record) in records {
        let end = record.window.at.checked_add(record.window.len);
        if end.is_none_or(|end| end > inputs.len(record.window.file)) {
            return Err(format!("record {name:?} lies outside of the file: {record:?}"));
        }
    }
    Ok(Reached::Read)
}

/// A sum over all that is known of it; fails where something does not hold.
fn judged(checkpoint: &Checkpoint) -> Result<u64, String> {
    // A sum and not a text: what is described once may be referred to very often.
    let mut sum = DefaultHasher::new();
    format!("{:?} {:?} {:?}", checkpoint.kind, checkpoint.byte_order, checkpoint.tree).hash(&mut sum);
    for (id, _) in checkpoint.tree.iter() {
        match tensor(checkpoint, id) {
            Ok(None) => {}
            Ok(Some(spec)) => {
                holds(checkpoint, &spec)?;
                format!("{spec:?}").hash(&mut sum);
            }
            Err(error) => {
                check::refusal(&error)?;
                error.to_string().hash(&mut sum);
            }
        }
    }
    Ok(sum.finish())
}

/// Every element lies in its storage.
fn holds(checkpoint: &Checkpoint, spec: &TensorSpec) -> Result<(), String> {
    match &spec.data {
        Data::Strided(strided) | Data::Quantized { codes: strided, .. } => lies_within(checkpoint, strided),
        Data::Sparse { parts, .. } => parts.iter().try_for_each(|part| holds(checkpoint, part)),
        Data::Distributed(distributed) => holds(checkpoint, &distributed.local),
        Data::Inline(inline) => match inline.bytes(&checkpoint.tree) {
            Ok(bytes) => {
                let n: u128 = inline.size.iter().map(|&extent| u128::from(extent)).product();
                match n * u128::from(inline.dtype.item_bytes()) == bytes.len() as u128 {
                    true => Ok(()),
                    false => Err(format!("{} bytes of {inline:?}", bytes.len())),
                }
            }
            Err(error) => check::refusal(&error.file("made.pt")).map(|_| ()),
        },
        _ => Ok(()),
    }
}

fn lies_within(checkpoint: &Checkpoint, strided: &Strided) -> Result<(), String> {
    let fault = || Err(format!("{strided:?} of {:?}", checkpoint.storages().get(strided.storage)));
    let Some((_, record)) = checkpoint.storages().get(strided.storage) else { return fault() };
    if strided.size.len() != strided.stride.len() {
        return fault();
    }
    if strided.size.contains(&0) || matches!(strided.element.packed, Packed::Items(_)) {
        return Ok(());
    }
    let steps = strided.size.iter().zip(&strided.stride);
    let mut steps = steps.map(|(&extent, &step)| u128::from(extent - 1).checked_mul(step.into()));
    let last = steps.try_fold(u128::from(strided.offset), |sum, step| sum.checked_add(step?));
    let end = last.and_then(|last| (last + 1).checked_mul(strided.element.bytes.into()));
    if end.is_none_or(|end| end > record.len.into()) { fault() } else { Ok(()) }
}

pub(super) fn seed(file: &File) -> Option<Vec<u8>> {
    const ENDS: [&str; 6] = [".pt", ".pth", ".bin", ".ckpt", ".pt2", ".pkl"];
    let is_torchs = ENDS.iter().any(|end| file.name.ends_with(end)) || pickle::seed(file).is_some();
    is_torchs.then(|| file.bytes.clone())
}

/// An archive and a stream of the same two tensors, and a pickle.
pub(super) fn beginnings() -> Vec<Vec<u8>> {
    let mut all = pickle::beginnings();
    let objects = objects(None);
    let archive = [
        ("m/data.pkl", &objects[..]),
        ("m/byteorder", b"little"),
        ("m/data/0", &[1; 24]),
        ("m/version", b"3\n"),
    ];
    all.push(zip(&archive));
    let magic: &[u8] = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.";
    let keys = b"\x80\x02](X\x01\x00\x00\x000e.\x06\0\0\0\0\0\0\0";
    all.push([magic, &self::objects(Some(())), keys, &[1; 24]].concat());
    all.extend(SCRIPTS.iter().map(|script| zip(&[("m/data.pkl", script), ("m/version", b"3")])));
    all
}

/// Calls whose storages are not there, for what they are made of besides.
const SCRIPTS: [&[u8]; 3] = [
    b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n(ctorch\nfloat32\n(K\x02t(K\x01t\x88tR.",
    b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR(K\x01K\x02\x85cnumpy\ndtype\n(U\x02i2\x89\
      \x88tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x04abcdtb.",
    b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(U\x02f4\x89\x88tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\
      \xffK\x00tbC\x04\x00\x00\x00\x40tR.",
];

fn zip(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::default();
    let mut bytes = vec![];
    for (name, data) in records {
        let len = data.len() as u64;
        let padding = Padding::Torch;
        let member = Member { name, len, align: 64, padding, local_extra: &[], central_extra: &[] };
        bytes.extend(writer.add(member).map(|placed| placed.header).unwrap_or_default());
        bytes.extend_from_slice(data);
    }
    bytes.extend(writer.finish().map(|finished| finished.bytes).unwrap_or_default());
    bytes
}

/// `{'a': a tensor, 'b': a parameter that is a part of it}`, with the sixth value of old persistent ids if asked for.
fn objects(old: Option<()>) -> Vec<u8> {
    let mut emitter = Emitter::default();
    let mut emit = || -> modelferry_core::Result<()> {
        let tensor = |emitter: &mut Emitter, offset: i64, size: &[i64], stride: &[i64]| {
            emitter.global("torch._utils", "_rebuild_tensor_v2")?;
            emitter.open_tuple(6);
            let len = if old.is_some() { 6 } else { 5 };
            emitter.open_tuple(len);
            emitter.text("storage")?;
            emitter.global("torch", "FloatStorage")?;
            emitter.text("0")?;
            emitter.text("cpu")?;
            emitter.int(6);
            if old.is_some() {
                emitter.none();
            }
            emitter.close_tuple(len);
            emitter.persistent();
            emitter.int(offset);
            emitter.ints(size.iter().copied());
            emitter.ints(stride.iter().copied());
            emitter.bool(false);
            emitter.none();
            emitter.close_tuple(6);
            emitter.reduce();
            modelferry_core::Result::Ok(())
        };
        emitter.empty_dict();
        emitter.before_item(0, 2);
        emitter.text("a")?;
        tensor(&mut emitter, 0, &[2, 3], &[3, 1])?;
        emitter.text("b")?;
        emitter.global("torch._utils", "_rebuild_parameter")?;
        emitter.open_tuple(3);
        tensor(&mut emitter, 1, &[2], &[2])?;
        emitter.bool(true);
        emitter.none();
        emitter.close_tuple(3);
        emitter.reduce();
        emitter.after_item(1, 2, modelferry_wire::pickle::Fill::Set);
        Ok(())
    };
    // Short texts and names without line feeds are always written.
    let _ = emit();
    emitter.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_beginning_is_read() {
        for sample in beginnings() {
            assert_eq!(check(&sample), Ok(Reached::Read), "{:?}", String::from_utf8_lossy(&sample));
        }
        assert_eq!(check(b"PK\x03\x04"), Ok(Reached::Refused));
    }
}
