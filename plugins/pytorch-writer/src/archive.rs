//! The archive around a pickle and its storages.

use modelferry_core::Result;
use modelferry_core::layout::{Digest, DigestAlgo, FileRange, Layout, Patch, PatchForm, Piece};
use modelferry_core::model::{ModelView, TensorIdx};
use modelferry_wire::zip::TorchWriter;

/// Adds a file to a layout: the records in the order in which `torch.save` writes them.
pub(crate) fn push(
    layout: &mut Layout,
    view: &ModelView<'_>,
    path: &str,
    pickle: Vec<u8>,
    storages: &[TensorIdx],
) -> Result<()> {
    let mut archive = Archive {
        root: root(path),
        zip: TorchWriter::default(),
        file: layout.files.len(),
        pieces: vec![],
        between: vec![],
        crc_in_directory: vec![],
        layout,
    };
    archive.bytes("data.pkl", pickle)?;
    // What follows the pickle lies where torch computes it to lie.
    archive.bytes(".format_version", b"1".to_vec())?;
    archive.bytes(".storage_alignment", b"64".to_vec())?;
    archive.bytes("byteorder", b"little".to_vec())?;
    for (key, &idx) in storages.iter().enumerate() {
        let tensor = Piece::tensor(view, idx);
        archive
            .record(&format!("data/{key}"), tensor)
            .map_err(|error| error.tensor(view.tensor(idx).name()))?;
    }
    archive.bytes("version", b"3\n".to_vec())?;
    archive.bytes(".data/serialization_id", vec![b'0'; 40])?;
    archive.finish(path)
}

/// The folder that an archive's records are in: its name up to the last dot, which torch insists on for names in ASCII.
fn root(path: &str) -> &str {
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    if stem.is_empty() || !path.is_ascii() { "archive" } else { stem }
}

struct Archive<'a> {
    root: &'a str,
    zip: TorchWriter,
    file: usize,
    pieces: Vec<Piece>,
    /// What stands between the last payload and the next.
    between: Vec<u8>,
    /// Digests with the places of their second holes.
    crc_in_directory: Vec<(usize, u64)>,
    layout: &'a mut Layout,
}

impl Archive<'_> {
    fn bytes(&mut self, name: &str, bytes: Vec<u8>) -> Result<()> {
        self.record(name, Piece::Bytes(bytes.into()))
    }

    fn record(&mut self, name: &str, payload: Piece) -> Result<()> {
        let len = payload.byte_len();
        let placed = self.zip.add(&format!("{}/{name}", self.root), len)?;
        self.between.extend_from_slice(&placed.header);
        if let Some((at, in_directory)) = placed.crc {
            let digest = self.layout.digests.len();
            let over = FileRange { file: self.file, bytes: placed.data_at..placed.data_at + len };
            self.layout.digests.push(Digest { algo: DigestAlgo::Crc32, over });
            self.layout.patches.push(Patch { file: self.file, at, form: PatchForm::Raw, digest });
            self.crc_in_directory.push((digest, in_directory));
            self.pieces.push(Piece::Bytes(std::mem::take(&mut self.between).into()));
            self.pieces.push(payload);
            self.between = placed.descriptor;
        }
        Ok(())
    }

    fn finish(mut self, path: &str) -> Result<()> {
        let directory = self.zip.finish()?;
        for (digest, at) in self.crc_in_directory {
            let at = directory.at + at;
            self.layout.patches.push(Patch { file: self.file, at, form: PatchForm::Raw, digest });
        }
        self.between.extend_from_slice(&directory.bytes);
        self.pieces.push(Piece::Bytes(self.between.into()));
        self.layout.push_file(path, self.pieces);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_torchs() {
        for (path, expected) in [
            ("pytorch_model.bin", "pytorch_model"),
            ("a.tar.gz", "a.tar"),
            ("plain", "plain"),
            ("a b.pt", "a b"),
            ("folder/x.pt", "x"),
            // torch refuses to write these.
            (".bin", "archive"),
            ("back\\.pt", "archive"),
            // And this one through a stream, which has no name.
            ("größe.pt", "archive"),
        ] {
            assert_eq!(root(path), expected, "{path}");
        }
    }
}
