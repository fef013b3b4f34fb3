//! Elements of arrays.

use crate::meek::*;
use crate::tight::*;
use modelferry_abi::codes::*;
use modelferry_abi::raw::zeroed;
use modelferry_abi::types::*;
use modelferry_abi::{layout, model};
use modelferry_core::limits::Limits;

#[test]
fn elements_may_be_shorter_and_longer() {
    let shape = [2u64];
    let tensor = MfTensor {
        name: MfText::of("w"),
        dtype: MF_DTYPE_F32,
        shape: shape.as_ptr(),
        rank: 1,
        data: MfData { kind: MF_DATA_FILE, file: 0, at: 0 },
        ..zeroed()
    };
    let node = MfNode { op: MF_OP_REGION, dtype: MF_DTYPE_U8, n: 4, ..zeroed() };
    let asset =
        MfAsset { name: MfText::of("a"), len: 4, data: MfData { kind: MF_DATA_FILE, file: 0, at: 0 } };
    let claim = MfClaim { node: 0, crc32: 1, is_header: 1 };
    let (inputs, limits) = (inputs(), Limits::default());
    // SAFETY: the arrays are what they say.
    let take = |model: MfModel| unsafe { model::take(model, &inputs, &limits) };
    for stride in strides::<MfTensor>() {
        let (tensors, _held) = slice_of(&[tensor, MfTensor { name: MfText::of("v"), ..tensor }], stride);
        assert_eq!(
            take(MfModel { tensors, ..room() }).is_ok(),
            stride >= size_of::<MfTensor>() - 8,
            "{stride}"
        );
    }
    for stride in strides::<MfNode>() {
        let (nodes, _held) = slice_of(&[node, node], stride);
        // Of a node that says no more there are no bytes.
        assert!(take(MfModel { nodes, ..room() }).is_ok(), "{stride}");
    }
    for stride in strides::<MfAsset>() {
        let (assets, _held) = slice_of(&[asset, asset], stride);
        assert_eq!(
            take(MfModel { assets, ..room() }).is_ok(),
            stride >= size_of::<MfAsset>() - 8,
            "{stride}"
        );
    }
    for stride in strides::<MfClaim>() {
        let (claims, _held) = slice_of(&[claim, claim], stride);
        let found = take(MfModel { nodes: MfSlice::of(&[node]), claims, ..room() }).unwrap();
        assert_eq!(found.claims[1].crc32, u32::from(stride >= 16), "{stride}");
    }
    let file = MfOutFile { path: MfText::of("x"), first_piece: 0, n_pieces: 1 };
    let piece = MfPiece { kind: MF_PIECE_ZERO, len: 4, ..zeroed() };
    let digest = MfDigest { algo: MF_DIGEST_CRC32, len: 4, ..zeroed() };
    let patch = MfPatch { form: MF_FORM_RAW, ..zeroed() };
    let text = MfText::of("x");
    // SAFETY: the arrays are what they say.
    let take = |layout: MfLayout| unsafe { layout::take(layout) };
    for stride in strides::<MfOutFile>() {
        let (files, _held) = slice_of(&[file, file], stride);
        let found = take(MfLayout { files, pieces: MfSlice::of(&[piece]), ..zeroed() });
        assert_eq!(
            found.unwrap().files[1].len,
            if stride >= size_of::<MfOutFile>() { 4 } else { 0 },
            "{stride}"
        );
    }
    for stride in strides::<MfPiece>() {
        let (pieces, _held) = slice_of(&[piece, piece], stride);
        let files = [MfOutFile { n_pieces: 2, ..file }];
        let found = take(MfLayout { files: MfSlice::of(&files), pieces, ..zeroed() }).unwrap();
        assert_eq!(found.files[0].len, if stride >= size_of::<MfPiece>() { 8 } else { 0 }, "{stride}");
    }
    for stride in strides::<MfDigest>() {
        let (digests, _held) = slice_of(&[digest, digest], stride);
        assert_eq!(take(MfLayout { digests, ..zeroed() }).unwrap().digests.len(), 2);
    }
    for stride in strides::<MfPatch>() {
        let (patches, _held) = slice_of(&[patch, patch], stride);
        assert_eq!(take(MfLayout { patches, ..zeroed() }).unwrap().patches.len(), 2);
    }
    for stride in strides::<MfText>() {
        let (notes, _held) = slice_of(&[text, text], stride);
        assert_eq!(take(MfLayout { notes, ..zeroed() }).unwrap().notes[1] == "x", stride >= 16, "{stride}");
    }
    let option = MfOption { name: text, value: text };
    for stride in strides::<MfOption>() {
        let (options, _held) = slice_of(&[option, option], stride);
        // SAFETY: the array is what it says.
        let found = unsafe { layout::to_options(options) };
        assert!(found.is_ok() || !is_whole!(stride, MfOption: value), "{stride}");
    }
}
