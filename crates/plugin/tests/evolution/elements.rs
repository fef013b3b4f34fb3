//! Elements of arrays.

use crate::meek::*;
use crate::tight::*;
use modelferry_abi::codes::*;
use modelferry_abi::raw::zeroed;
use modelferry_abi::types::*;
use modelferry_abi::{epilogue, layout, model};
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

#[test]
fn elements_of_reports_may_be_shorter_and_longer() {
    let text = MfText::of("x");
    let promise = MfPromise { path: text, at_most: 7, format: text, n_digests: 5, ..zeroed() };
    for stride in strides::<MfPromise>() {
        let (promises, _held) = slice_of(&[promise, promise], stride);
        // SAFETY: the array is what it says.
        let found = unsafe { layout::take(MfLayout { promises, ..zeroed() }) };
        let Ok(found) = found else {
            assert!(!is_whole!(stride, MfPromise: at_most format first_file), "{stride}");
            continue;
        };
        let last = &found.promises[1];
        assert_eq!(last.at_most == 7, stride >= std::mem::offset_of!(MfPromise, format), "{stride}");
        let n_digests = last.by.as_ref().map_or(0, |by| by.digests.len());
        assert_eq!(n_digests == 5, stride >= size_of::<MfPromise>(), "{stride}");
    }
    // SAFETY: the arrays are what they say.
    let seen = |outcome: MfOutcome| unsafe { epilogue::seen(&outcome) };
    let file = MfWritten { path: text, len: 3 };
    for stride in strides::<MfWritten>() {
        let (files, _held) = slice_of(&[file, file], stride);
        let found = seen(MfOutcome { files, ..zeroed() }).unwrap();
        assert_eq!(found.files[1].len == 3, stride >= size_of::<MfWritten>(), "{stride}");
    }
    let digest = MfDigested { algo: MF_DIGEST_CRC32, len: 8, value: text, ..zeroed() };
    for stride in strides::<MfDigested>() {
        let (digests, _held) = slice_of(&[digest, digest], stride);
        let found = seen(MfOutcome { digests, ..zeroed() }).unwrap();
        assert_eq!(found.digests[1].value == *b"x", stride >= size_of::<MfDigested>(), "{stride}");
    }
    let tensor = MfSeen { name: text, dtype: MF_DTYPE_Q4_0, n_quantized: 5, largest: 0.5, ..zeroed() };
    for stride in strides::<MfSeen>() {
        let (tensors, _held) = slice_of(&[tensor, tensor], stride);
        let Ok(found) = seen(MfOutcome { tensors, ..zeroed() }) else {
            // Without a type it is none.
            assert!(stride < std::mem::offset_of!(MfSeen, overflow), "{stride}");
            continue;
        };
        let largest = found.tensors[1].quantized.map(|quantized| quantized.largest);
        assert_eq!(largest == Some(0.5), stride >= size_of::<MfSeen>(), "{stride}");
    }
    let loss = MfLoss {
        struct_size: size_of::<MfLoss>() as u64,
        kind: MF_LOSS_OVERFLOW,
        subject: text,
        detail: text,
        ..zeroed()
    };
    for stride in strides::<MfLoss>() {
        let (losses, _held) = slice_of(&[loss, loss], stride);
        let Ok(found) = seen(MfOutcome { losses, ..zeroed() }) else {
            assert!(stride < std::mem::offset_of!(MfLoss, subject), "{stride}");
            continue;
        };
        let has_detail = stride >= std::mem::offset_of!(MfLoss, axes);
        assert_eq!(found.losses[1].detail == "x", has_detail, "{stride}");
    }
    let small = MfSmallFile { path: text, text };
    for stride in strides::<MfSmallFile>() {
        let (files, _held) = slice_of(&[small, small], stride);
        // SAFETY: the array is what it says.
        let found = unsafe { epilogue::take(MfEpilogue { files, ..zeroed() }) }.unwrap();
        assert_eq!(found[1].text == "x", stride >= size_of::<MfSmallFile>(), "{stride}");
    }
}
