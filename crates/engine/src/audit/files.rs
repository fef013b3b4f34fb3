//! Digests that a source states about whole files.

use super::{Audit, Fault};
use crate::control::Control;
use crate::eval::Source;
use modelferry_core::expr::Op;
use modelferry_core::model::FileDigest;
use modelferry_core::{Error, Result};
use sha1::{Digest, Sha1};

/// Bytes of the files that something is stated about.
pub(super) fn n_bytes(source: Source<'_>) -> u64 {
    let len = |digest: &FileDigest| source.inputs.len(digest.file);
    source.model.file_digests.iter().map(len).fold(0, u64::saturating_add)
}

/// Reads each file and compares its digest with the stated one.
pub(super) fn check(source: Source<'_>, run_bytes: u64, control: &Control, audit: &mut Audit) -> Result<()> {
    for digest in &source.model.file_digests {
        let found = sha1(source, digest, run_bytes, control)?;
        audit.n_checksums += 1;
        if found != digest.sha1 {
            let error = Error::difference("the file does not match its stated SHA-1")
                .file(source.inputs.name(digest.file))
                .expected(hex(&digest.sha1))
                .found(hex(&found));
            audit.faults.push(Fault { tensors: tensors(source, digest), error });
        }
    }
    Ok(())
}

fn sha1(source: Source<'_>, digest: &FileDigest, run_bytes: u64, control: &Control) -> Result<[u8; 20]> {
    let len = source.inputs.len(digest.file);
    let mut hasher = Sha1::new();
    let mut buffer = vec![0; run_bytes.clamp(1, len.max(1)) as usize];
    let mut at = 0;
    while at < len {
        control.check()?;
        let n = (len - at).min(buffer.len() as u64);
        source.inputs.read_at(digest.file, at, &mut buffer[..n as usize])?;
        hasher.update(&buffer[..n as usize]);
        control.advance(n);
        at += n;
    }
    Ok(hasher.finalize().into())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The tensors that begin in the file.
fn tensors(source: Source<'_>, digest: &FileDigest) -> Vec<usize> {
    let nodes = &source.model.nodes;
    let is_in_it = |tensor: &modelferry_core::model::Tensor| {
        let mut id = tensor.data;
        loop {
            if let Op::Region { file, .. } = nodes[id].op {
                return file == digest.file;
            }
            match nodes.children(id).next() {
                Some(child) => id = child,
                None => return false,
            }
        }
    };
    let tensors = source.model.tensors.iter().enumerate();
    tensors.filter(|(_, tensor)| is_in_it(tensor)).map(|(idx, _)| idx).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Settings;
    use modelferry_core::DType;
    use modelferry_core::inputs::{FileId, MemInputs};
    use modelferry_core::model::Model;

    /// FIPS 180: the SHA-1 of "abc".
    const ABC: [u8; 20] = [
        0xa9, 0x99, 0x3e, 0x36, 0x47, 0x06, 0x81, 0x6a, 0xba, 0x3e, 0x25, 0x71, 0x78, 0x50, 0xc2, 0x6c, 0x9c,
        0xd0, 0xd8, 0x9d,
    ];

    #[test]
    fn a_file_is_what_was_stated_or_not() {
        let inputs = MemInputs::new("model", vec![0; 4]).with("data", *b"abc");
        let mut model = Model::default();
        for (name, file) in [("a", 0), ("b", 1)] {
            let bytes = model.nodes.region(FileId(file), 0, 3).unwrap();
            model.push(name, DType::U8, vec![3], bytes).unwrap();
        }
        let audit = |model: &Model| {
            let source = Source { model, inputs: &inputs };
            crate::check_claims(source, &Settings::default(), &Control::new()).unwrap()
        };
        model.file_digests.push(FileDigest { file: FileId(1), sha1: ABC });
        let found = audit(&model);
        assert_eq!((found.n_checksums, found.n_bytes, found.faults.len()), (1, 9, 0));
        model.file_digests[0].sha1[3] ^= 1;
        let found = audit(&model);
        let [fault] = &found.faults[..] else { panic!("{:?}", found.faults) };
        assert_eq!(fault.tensors, [1]);
        assert_eq!(
            fault.error.to_string(),
            "data: the file does not match its stated SHA-1, expected a9993e374706816aba3e25717850c26c9cd0d89d, found \
             a9993e364706816aba3e25717850c26c9cd0d89d"
        );
    }
}
