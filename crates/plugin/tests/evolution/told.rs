//! What the program is given, told and asked.

use crate::meek::*;
use crate::support::failure;
use crate::tight::*;
use modelferry_abi::codes::*;
use modelferry_abi::raw::zeroed;
use modelferry_abi::report::Told;
use modelferry_abi::types::*;
use modelferry_core::ErrorKind;
use modelferry_core::plugin::Writer as _;
use modelferry_plugin::Foreign;
use std::ptr;

#[test]
fn the_program_is_given_shorter_and_longer_tables() {
    let (plugin, reader, writer) = tables();
    // SAFETY: the tables are what they say, as far as they are long.
    let found = |plugin: &Tight| unsafe { Foreign::new(plugin.as_ptr()) };
    for size in sizes::<MfPlugin>() {
        // A table that ends before the writers has readers only.
        let (end_of_readers, end) = (std::mem::offset_of!(MfPlugin, writers), size_of::<MfPlugin>());
        match found(&Tight::sized(&plugin, size)) {
            Ok(found) => {
                let counts = (found.readers.len(), found.writers.len());
                assert_eq!(counts, (1, usize::from(size >= end)), "{size}");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Plugin, "{size}: {error}");
                assert!(size < end && size != end_of_readers, "{size}: {error}");
            }
        }
    }
    for stride in strides::<MfReader>() {
        let (readers, _held) = slice_of(&[reader, reader], stride);
        let found = found(&Tight::sized(&MfPlugin { readers, ..plugin }, size_of::<MfPlugin>()));
        assert_eq!(found.is_ok(), stride >= size_of::<MfReader>(), "{stride}");
    }
    for stride in strides::<MfWriter>() {
        let (writers, _held) = slice_of(&[writer, writer], stride);
        let found = found(&Tight::sized(&MfPlugin { writers, ..plugin }, size_of::<MfPlugin>()));
        // Only what came last may be absent: laying out again, and reporting.
        assert_eq!(found.is_ok(), stride >= std::mem::offset_of!(MfWriter, relayout), "{stride}");
        if let Ok(found) = found {
            let made = found.writers[1].epilogue(&outcome()).unwrap();
            assert_eq!(made.len(), usize::from(stride >= size_of::<MfWriter>()), "{stride}");
        }
    }
    for absent in [
        MfReader { identify: None, ..reader },
        MfReader { read: None, ..reader },
        MfReader { info: MfText::EMPTY, ..reader },
        MfReader { info: MfText::of(&[0xffu8]), ..reader },
        MfReader { info: MfText::of("[]"), ..reader },
    ] {
        let (readers, _held) = slice_of(&[absent], size_of::<MfReader>());
        let error = failure(found(&Tight::sized(&MfPlugin { readers, ..plugin }, size_of::<MfPlugin>())));
        assert_eq!(error.kind(), ErrorKind::Plugin, "{error}");
    }
    for absent in [MfWriter { layout: None, ..writer }, MfWriter { info: MfText::of("{}"), ..writer }] {
        let (writers, _held) = slice_of(&[absent], size_of::<MfWriter>());
        let error = failure(found(&Tight::sized(&MfPlugin { writers, ..plugin }, size_of::<MfPlugin>())));
        assert_eq!(error.kind(), ErrorKind::Plugin, "{error}");
    }
    let whole = size_of::<MfPlugin>();
    for odd in [
        MfPlugin { id: MfText::of(&[0xffu8]), ..plugin },
        MfPlugin { version: MfText { ptr: ptr::null(), len: 1 }, ..plugin },
        MfPlugin { abi_minor: MF_ABI_MINOR + 1, ..plugin },
        MfPlugin { readers: MfSlice { ptr: ptr::null(), len: 1 << 60, stride: 8 }, ..plugin },
        MfPlugin { readers: MfSlice { len: 1 << 60, stride: 0, ..plugin.readers }, ..plugin },
        MfPlugin { readers: zeroed(), writers: zeroed(), ..plugin },
    ] {
        let error = failure(found(&Tight::sized(&odd, whole)));
        assert_eq!(error.kind(), ErrorKind::Plugin, "{error}");
    }
    // SAFETY: null is looked at first.
    assert_eq!(failure(unsafe { Foreign::new(ptr::null()) }).kind(), ErrorKind::Plugin);
}

#[test]
fn what_a_run_has_shown_arrives() {
    let writer = Foreign::linked(modelferry_meek_v1).unwrap().writers[0];
    let made = [Meek.epilogue(&outcome()), writer.epilogue(&outcome())].map(Result::unwrap);
    assert_eq!(made[0], made[1]);
    assert_eq!((made[0].len(), made[0][0].path.as_str()), (1, "report"));
    assert!(made[0][0].text.contains("rms: 0.5") && made[0][0].text.contains("Observed"));
}

#[test]
fn the_program_is_told_in_shorter_and_longer_structs() {
    let text = MfText::of("it");
    let error =
        MfError { kind: MF_ERROR_TARGET, what: text, cause: text, has_offset: 1, offset: 7, ..zeroed() };
    let loss = MfLoss { kind: MF_LOSS_ORDER, subject: text, renamed: text, detail: text, ..zeroed() };
    for size in sizes::<MfError>() {
        let told = Told::by(|report| {
            let error = Tight::sized(&error, size);
            // SAFETY: the report is the call's own.
            unsafe { (*report).error.unwrap()((*report).context, error.as_ptr()) };
            MF_FAILED
        });
        let found = failure(told);
        assert_eq!(found.kind(), if size >= 16 { ErrorKind::Target } else { ErrorKind::Plugin }, "{size}");
        assert_eq!(found.what() == "it", size >= 32, "{size}");
    }
    for size in sizes::<MfLoss>() {
        let told = Told::by(|report| {
            let loss = Tight::sized(&loss, size);
            // SAFETY: the report is the call's own.
            unsafe { (*report).loss.unwrap()((*report).context, loss.as_ptr()) };
            MF_OK
        });
        let losses = told.unwrap().losses();
        assert_eq!(losses.is_ok(), size >= 16, "{size}");
    }
}

#[test]
fn the_program_is_asked_in_shorter_and_longer_structs() {
    let node = MfNode { op: MF_OP_REGION, dtype: MF_DTYPE_U8, n: 4, ..zeroed() };
    let nodes = [node];
    let asked = MfModel { nodes: MfSlice::of(&nodes), ..room() };
    let query = MfQuery { kind: MF_QUERY_SMALL, len: 4, ..zeroed() };
    let put = |model: &Tight, query: &Tight, answer: &Tight| {
        with_call(None, |call| {
            let mut out = [0u8; 4];
            // SAFETY: the program's functions, and structs that say how long they are.
            unsafe {
                (*call.host).ask.unwrap()(
                    call.call,
                    ptr::null(),
                    model.as_ptr(),
                    query.as_ptr(),
                    out.as_mut_ptr(),
                    4,
                    answer.as_ptr(),
                ) == MF_OK
            }
        })
        .unwrap()
    };
    let (whole_query, whole_model) =
        (|| Tight::sized(&query, size_of::<MfQuery>()), || Tight::sized(&asked, size_of::<MfModel>()));
    let answer = |size: usize| Tight::sized(&zeroed::<MfAnswer>(), size);
    for size in sizes::<MfQuery>() {
        let done = put(&whole_model(), &Tight::sized(&query, size), &answer(size_of::<MfAnswer>()));
        assert_eq!(done, size >= 16, "a query of {size} bytes");
    }
    for size in sizes::<MfAnswer>() {
        assert!(put(&whole_model(), &whole_query(), &answer(size)), "an answer of {size} bytes");
    }
    for size in sizes::<MfModel>() {
        let done = put(&Tight::sized(&asked, size), &whole_query(), &answer(size_of::<MfAnswer>()));
        assert_eq!(done, size >= std::mem::offset_of!(MfModel, blobs), "a model of {size} bytes");
    }
}
