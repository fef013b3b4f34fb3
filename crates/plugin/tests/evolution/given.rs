//! What a plugin is given.

use crate::meek::*;
use crate::tight::*;
use modelferry_abi::codes::*;
use modelferry_abi::layout;
use modelferry_abi::raw::zeroed;
use modelferry_abi::types::*;
use modelferry_core::DType;
use modelferry_core::limits::Limits;
use modelferry_core::model::{Model, ModelView};
use modelferry_core::options::Options;
use modelferry_core::plugin::*;
use std::ptr;

#[test]
fn a_plugin_is_given_shorter_and_longer_structs() {
    // Each: the sizes with which it could still do all that it does.
    let mut works = vec![];
    for size in sizes::<MfHost>() {
        let done = with_call(None, |call| {
            // SAFETY: the program's own.
            let host = Tight::sized(unsafe { &*call.host }, size);
            let mut model = room();
            let done = read(&MfCall { host: host.as_ptr(), ..call }, &mut model);
            release(&model);
            done
        });
        works.push(("host", size, done.unwrap_or(false), size >= std::mem::offset_of!(MfHost, layout)));
    }
    for size in sizes::<MfLimits>() {
        let done = with_call(None, |call| {
            // SAFETY: the program's own.
            let limits = Tight::sized(unsafe { &*call.limits }, size);
            let mut model = room();
            let done = read(&MfCall { limits: limits.as_ptr(), ..call }, &mut model);
            release(&model);
            done
        });
        // What is not stated is as this version has it.
        works.push(("limits", size, done.unwrap_or(false), true));
    }
    for size in sizes::<MfReport>() {
        let done = with_call(None, |call| {
            // SAFETY: the program's own.
            let report = Tight::sized(unsafe { &*call.report }, size);
            let mut model = room();
            let done = read(&MfCall { report: report.as_ptr(), ..call }, &mut model);
            release(&model);
            done
        });
        works.push(("report", size, done.unwrap_or(false), true));
    }
    for size in sizes::<MfCall>() {
        let done = with_call(None, |call| {
            let (call, mut model) = (Tight::sized(&call, size), room());
            // SAFETY: it says how long it is.
            let done = read(unsafe { &*call.as_ptr() }, &mut model);
            release(&model);
            done
        });
        works.push(("call", size, done.unwrap_or(false), size >= size_of::<MfCall>()));
    }
    for size in sizes::<MfModel>() {
        let mut given = room();
        let done = with_call(None, |call| {
            let model = Tight::sized(&room(), size);
            let done = read(&call, model.as_ptr());
            // SAFETY: as many bytes as both hold.
            unsafe {
                ptr::copy_nonoverlapping(model.ptr, (&raw mut given).cast(), size.min(size_of::<MfModel>()))
            };
            if size >= 24 {
                release(&given);
            }
            done
        });
        works.push(("model", size, done.unwrap(), true));
        assert_eq!(given.struct_size, (size.min(size_of::<MfModel>()) & !7) as u64);
    }
    for (what, size, found, expected) in works {
        assert_eq!(found, expected, "{what} of {size} bytes");
    }
}

#[test]
fn a_writer_is_given_shorter_and_longer_structs() {
    let (_, reader, writer) = tables();
    assert!(reader.read.is_some());
    let mut model = Model::default();
    let region = model.nodes.region(modelferry_core::inputs::FileId(0), 0, 8).unwrap();
    let data = model.nodes.decode(region, DType::F32, 2, Default::default()).unwrap();
    model.push("w", DType::F32, vec![2], data).unwrap();
    let view = ModelView::new(&model, &Limits::default()).unwrap();
    let shown = modelferry_abi::view::Shown::new(view).unwrap();
    let options = Options::default();
    let wanted = layout::Wanted::new(&LayoutRequest {
        file_name: "x",
        weights: "",
        options: &options,
        shards: Shards::One,
    });
    let lay_out = |model: *const MfModel, request: *const MfRequest, found: *mut MfLayout| {
        with_call(Some(&view), |call| {
            // SAFETY: the tables are what they say, and so is what is passed.
            unsafe { writer.layout.unwrap()(writer.owner, &call, model, request, found) == MF_OK }
        })
    };
    let release = |size: usize, found: &Tight| {
        // SAFETY: it was filled as far as it is long.
        if let (true, MfLayout { owner, release: Some(release), .. }) = unsafe {
            let mut given: MfLayout = zeroed();
            ptr::copy_nonoverlapping(found.ptr, (&raw mut given).cast(), size.min(size_of::<MfLayout>()));
            (size >= 24, given)
        } {
            // SAFETY: its own owner, once.
            unsafe { release(owner) };
        }
    };
    let whole = size_of::<MfLayout>();
    let room: MfLayout = zeroed();
    for size in sizes::<MfRequest>() {
        let (request, found) = (Tight::sized(&wanted.raw(), size), Tight::sized(&room, whole));
        assert!(
            lay_out(&shown.model(), request.as_ptr(), found.as_ptr()).unwrap(),
            "request of {size} bytes"
        );
        release(whole, &found);
    }
    for size in sizes::<MfModel>() {
        let (model, found) = (Tight::sized(&shown.model(), size), Tight::sized(&room, whole));
        let done = lay_out(model.as_ptr(), &wanted.raw(), found.as_ptr()).unwrap();
        let is_whole = is_whole!(size, MfModel: release read_at tensors nodes blobs assets claims document);
        assert!(done || !is_whole, "model of {size} bytes");
        release(whole, &found);
    }
    for size in sizes::<MfLayout>() {
        let found = Tight::sized(&room, size);
        assert!(lay_out(&shown.model(), &wanted.raw(), found.as_ptr()).unwrap(), "layout of {size} bytes");
        release(size, &found);
    }
}

#[test]
fn a_writer_is_told_of_the_run_in_shorter_and_longer_structs() {
    let (.., writer) = tables();
    let outcome = outcome();
    let shown = modelferry_abi::epilogue::Shown::new(&outcome).unwrap();
    let report = |outcome: *const MfOutcome, found: &Tight, size: usize| {
        let done = with_call(None, |call| {
            // SAFETY: the tables are what they say, and so is what is passed.
            unsafe { writer.epilogue.unwrap()(writer.owner, &call, outcome, found.as_ptr()) == MF_OK }
        })
        .unwrap();
        let mut made: MfEpilogue = zeroed();
        // SAFETY: it was filled as far as it is long, and is given away with its own owner, once.
        unsafe {
            ptr::copy_nonoverlapping(found.ptr, (&raw mut made).cast(), size.min(size_of::<MfEpilogue>()));
            match size >= 24 {
                true => (done, modelferry_abi::epilogue::take(made).map_or(0, |files| files.len())),
                false => (done, 0),
            }
        }
    };
    let (whole, room) = (size_of::<MfEpilogue>(), zeroed::<MfEpilogue>());
    for size in sizes::<MfOutcome>() {
        let (done, n) = report(Tight::sized(&shown.raw(), size).as_ptr(), &Tight::sized(&room, whole), whole);
        let is_whole = is_whole!(size, MfOutcome: promises files digests tensors losses);
        assert!(done || !is_whole, "outcome of {size} bytes");
        let knows_promises = size >= std::mem::offset_of!(MfOutcome, files);
        assert_eq!(n == 1, done && knows_promises, "outcome of {size} bytes");
    }
    for size in sizes::<MfEpilogue>() {
        let (done, n) = report(&shown.raw(), &Tight::sized(&room, size), size);
        assert_eq!((done, n), (true, usize::from(size >= whole)), "epilogue of {size} bytes");
    }
}
