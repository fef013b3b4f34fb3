//! Layouts: what their bytes must be, and random ones.

use crate::dag::Dag;
use crate::naive::{Naive, pack};
use crate::random::Random;
use modelferry_core::dtype::DType;
use modelferry_core::error::Result;
use modelferry_core::expr::{BitOrder, ByteOrder, NodeId, Packing};
use modelferry_core::inputs::Inputs;
use modelferry_core::layout::{Digest, DigestAlgo, FileRange, Layout, Patch, PatchForm, Piece};
use modelferry_core::model::Model;
use sha2::{Digest as _, Sha256};

/// The files of a layout, each whole: pieces, then CRCs over them and their patches, then the other digests.
pub fn execute(model: &Model, inputs: &dyn Inputs, layout: &Layout) -> Result<Vec<Vec<u8>>> {
    let mut naive = Naive::new(model, inputs);
    let mut files = vec![];
    for file in &layout.files {
        let mut bytes = vec![];
        for piece in &file.pieces {
            match piece {
                Piece::Bytes(blob) => bytes.extend_from_slice(blob),
                Piece::Zero(n) => bytes.extend(vec![0; *n as usize]),
                Piece::Asset { idx, bytes: range } => {
                    let asset = naive.items(model.assets[*idx].data)?;
                    bytes.extend_from_slice(&asset.bytes()[range.start as usize..range.end as usize]);
                }
                Piece::Tensor { idx, bytes: range, packing } => {
                    let tensor = &model.tensors[*idx];
                    let packed = pack(naive.items(tensor.data)?.bytes(), tensor.dtype, *packing);
                    bytes.extend_from_slice(&packed[range.start as usize..range.end as usize]);
                }
            }
        }
        files.push(bytes);
    }
    for algo in [DigestAlgo::Crc32, DigestAlgo::Sha256] {
        let taken = files.clone();
        for patch in layout.patches.iter().filter(|patch| layout.digests[patch.digest].algo == algo) {
            let over = &layout.digests[patch.digest].over;
            let bytes = &taken[over.file][over.bytes.start as usize..over.bytes.end as usize];
            let value = match algo {
                DigestAlgo::Crc32 => crc32(bytes).to_le_bytes().to_vec(),
                _ => Sha256::digest(bytes).to_vec(),
            };
            let written = match patch.form {
                PatchForm::Raw => value,
                PatchForm::Hex => value.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect(),
            };
            files[patch.file][patch.at as usize..][..written.len()].copy_from_slice(&written);
        }
    }
    Ok(files)
}

/// CRC-32 of IEEE 802.3, bit by bit.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

/// Makes tensors of some nodes of `dag` and spreads ranges of them over one to three files, with holes for digests.
pub fn random(dag: &mut Dag, seed: u64) -> Result<Layout> {
    let mut random = Random::new(!seed);
    for (idx, &root) in dag.roots.iter().enumerate() {
        let node = &dag.model.nodes[root];
        let (dtype, n) = (node.dtype, node.n);
        // Machines disagree about what these nodes hold.
        if !dag.any_nan.contains(&root) && random.one_in(2) {
            dag.model.push(format!("t{idx}"), dtype, vec![n * dtype.item_elements()], root)?;
        }
    }
    let plain: Vec<NodeId> = dag.model.nodes.iter().map(|(id, _)| id).collect();
    for (idx, id) in plain.into_iter().enumerate().take(4) {
        // Those that cannot be an asset's are refused.
        let _ = dag.model.push_asset(format!("a{idx}"), id);
    }
    let mut layout = Layout::default();
    for idx in 0..random.between(1, 3) {
        let mut pieces = vec![];
        for _ in 0..random.below(12) {
            pieces.push(piece(&dag.model, &mut random));
        }
        layout.push_file(format!("folder/out{idx}.bin"), pieces);
    }
    for _ in 0..random.below(4) {
        let over = random.below(layout.files.len() as u64) as usize;
        let end = random.between(0, layout.files[over].len);
        let algo = *random.pick(&[DigestAlgo::Crc32, DigestAlgo::Crc32, DigestAlgo::Sha256]);
        let bytes = random.between(0, end)..end;
        layout.digests.push(Digest { algo, over: FileRange { file: over, bytes } });
        // The hole stands at the end of its file, and so behind what it covers.
        let file = random.below(layout.files.len() as u64) as usize;
        let form =
            if algo == DigestAlgo::Crc32 || random.one_in(2) { PatchForm::Raw } else { PatchForm::Hex };
        let digest = layout.digests.len() - 1;
        let patch = Patch { file, at: layout.files[file].len, form, digest };
        let hole = patch.byte_len(&layout.digests);
        layout.files[file].pieces.push(Piece::Zero(hole));
        layout.files[file].len += hole;
        layout.patches.push(patch);
    }
    layout.root = random.below(layout.files.len() as u64) as usize;
    Ok(layout)
}

fn piece(model: &Model, random: &mut Random) -> Piece {
    if !model.assets.is_empty() && random.one_in(6) {
        let idx = random.below(model.assets.len() as u64) as usize;
        let len = model.nodes[model.assets[idx].data].n;
        let (from, to) = (random.between(0, len), random.between(0, len));
        return Piece::Asset { idx, bytes: from.min(to)..from.max(to) };
    }
    if model.tensors.is_empty() || random.one_in(3) {
        let n = *random.pick(&[0, 1, 7, 64, 4096, 5000]);
        return if random.one_in(2) { Piece::Zero(n) } else { Piece::Bytes(random.bytes(n as usize).into()) };
    }
    let idx = random.below(model.tensors.len() as u64) as usize;
    let tensor = &model.tensors[idx];
    let packing = Packing {
        bytes: *random.pick(&[ByteOrder::Little, ByteOrder::Little, ByteOrder::Big]),
        bits: *random.pick(&[BitOrder::Low, BitOrder::High]),
    };
    let unit = if tensor.dtype.is_sub_byte() { 1 } else { DType::item_bytes(tensor.dtype) };
    let n_units = tensor.byte_len() / unit;
    let whole = random.one_in(2);
    let (from, to) =
        if whole { (0, n_units) } else { (random.between(0, n_units), random.between(0, n_units)) };
    Piece::Tensor { idx, bytes: from.min(to) * unit..from.max(to) * unit, packing }
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelferry_core::limits::Limits;
    use modelferry_core::model::ModelView;

    #[test]
    fn checksums_of_known_text() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn random_layouts_are_valid() {
        for seed in 0..100 {
            let mut dag = Dag::random(seed);
            let layout = random(&mut dag, seed).unwrap();
            layout.validate(&ModelView::new(&dag.model, &Limits::default()).unwrap()).unwrap();
            let files = execute(&dag.model, &dag.inputs, &layout).unwrap();
            for (file, bytes) in layout.files.iter().zip(files) {
                assert_eq!(file.len, bytes.len() as u64);
            }
        }
    }
}
