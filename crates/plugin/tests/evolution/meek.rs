//! A plugin and a program that use all that there is.

use modelferry_abi::calls::Call;
use modelferry_abi::codes::*;
use modelferry_abi::export_plugin;
use modelferry_abi::raw::zeroed;
use modelferry_abi::report::Told;
use modelferry_abi::types::*;
use modelferry_core::epilogue::{Digested, Outcome, Promise, Quantized, SmallFile, TensorSeen, Written};
use modelferry_core::inputs::{FileId, Inputs, MemInputs};
use modelferry_core::layout::{Digest, DigestAlgo, FileRange, Layout, Piece};
use modelferry_core::limits::Limits;
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{Model, ModelView};
use modelferry_core::options::Options;
use modelferry_core::plugin::*;
use modelferry_core::{DType, Error, Result};
use std::ptr;

/// Uses all that there is.
pub(crate) struct Meek;

impl Reader for Meek {
    fn info(&self) -> &'static ReaderInfo {
        static INFO: ReaderInfo = ReaderInfo {
            format: "meek",
            about: "",
            extensions: &[".meek"],
            magic: &[],
            place: Place::File,
            options: &[],
        };
        &INFO
    }

    fn identify(&self, inputs: &dyn Inputs) -> Verdict {
        if inputs.len(inputs.root()) == 16 { Verdict::Content } else { Verdict::No }
    }

    fn read(&self, inputs: &dyn Inputs, _: &Options, host: &mut dyn Host) -> Result<Model> {
        let root = inputs.root();
        let names = inputs.list("")?;
        let file = inputs.open(names.first().map_or("", |name| name))?;
        let bytes = inputs.read_vec(root, 0, inputs.len(root), host.limits().header_bytes)?;
        inputs.release(file);
        let mut model = Model::default();
        let region = model.nodes.region(root, 0, bytes.len() as u64)?;
        host.ask(&model, Query::Small { node: region, at: 0, len: 4 })?;
        host.read(inputs, root)?;
        let data = model.nodes.decode(region, DType::F32, bytes.len() as u64 / 4, Default::default())?;
        model.push(inputs.name(root), DType::F32, vec![bytes.len() as u64 / 4], data)?;
        model.losses.push(Loss::declared(LossKind::Order, "x", "y"));
        Ok(model)
    }
}

impl Writer for Meek {
    fn info(&self) -> &'static WriterInfo {
        static INFO: WriterInfo = WriterInfo {
            format: "meek",
            about: "",
            extensions: &[".meek"],
            place: Place::File,
            options: &[],
            dtypes: &[DType::F32],
            max_rank: 4,
            max_tensors: u64::MAX,
            names: Carries::Yes,
            ties: Carries::No,
            metadata: MetadataForm::None,
            tree: Carries::No,
            graph: Carries::No,
            config: Carries::No,
            assets: Carries::No,
            shards: Carries::No,
        };
        &INFO
    }

    fn layout(
        &self,
        view: &ModelView<'_>,
        request: &LayoutRequest<'_>,
        host: &mut dyn Host,
    ) -> Result<(Layout, Vec<Loss>)> {
        host.layout(view, "other", request)?;
        let mut layout = Layout::default();
        let pieces = (0..view.tensors().len()).map(|idx| Piece::tensor(view, idx)).collect();
        layout.push_file(request.file_name, pieces);
        layout.promise("report", 1000);
        Ok((layout, vec![Loss::declared(LossKind::Order, "x", "y")]))
    }

    /// Says all that it knows in every file.
    fn epilogue(&self, outcome: &Outcome) -> Result<Vec<SmallFile>> {
        let Outcome { promises, files, digests, tensors, losses } = outcome;
        let text = format!("{files:?} {digests:?} {tensors:?} {losses:?}");
        Ok(promises
            .iter()
            .map(|promise| SmallFile { path: promise.path.clone(), text: text.clone() })
            .collect())
    }
}

/// What there is to report, of every kind.
pub(crate) fn outcome() -> Outcome {
    let digest = |algo| Digest { algo, over: FileRange { file: 0, bytes: 1..9 } };
    let quantized = Quantized { n: 64, non_finite: 2, overflow: 3, rms: 0.5, largest: 1.5 };
    let tensor = |idx: usize, dtype, quantized| TensorSeen {
        idx,
        name: format!("t{idx}"),
        dtype,
        overflow: 4,
        underflow: 5,
        quantized,
    };
    let opaque = DType::Opaque { elements: 32, bytes: 20 };
    Outcome {
        promises: vec![Promise { path: "report".into(), at_most: 1000, by: None }],
        files: vec![Written { path: "x".into(), len: 9 }, Written { path: "y/z".into(), len: 0 }],
        digests: vec![
            Digested { digest: digest(DigestAlgo::Crc32), value: vec![1, 2, 3, 4] },
            Digested { digest: digest(DigestAlgo::Sha256), value: vec![7; 32] },
        ],
        tensors: vec![tensor(0, DType::Q4_0, Some(quantized)), tensor(3, opaque, None)],
        losses: vec![
            Loss::observed(LossKind::Underflow, "t0", "small").asked(),
            Loss::observed(LossKind::Overflow, "t3", "large"),
        ],
    }
}

export_plugin!(modelferry_meek_v1, readers: [Meek], writers: [Meek]);

/// Answers all questions.
#[derive(Default)]
pub(crate) struct Kind {
    limits: Limits,
}

impl Host for Kind {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn ask(&mut self, _: &Model, _: Query) -> Result<Answer> {
        Ok(Answer::Bytes(vec![1; 4]))
    }

    fn read(&mut self, _: &dyn Inputs, _: FileId) -> Result<Model> {
        Ok(Model::default())
    }

    fn layout(&mut self, _: &ModelView<'_>, _: &str, _: &LayoutRequest<'_>) -> Result<(Layout, Vec<Loss>)> {
        Ok((Layout::default(), vec![]))
    }
}

pub(crate) fn inputs() -> MemInputs {
    MemInputs::new("in.meek", [0u8; 16].to_vec())
}

pub(crate) fn tables() -> (MfPlugin, MfReader, MfWriter) {
    // SAFETY: what `export_plugin!` has made is what it says.
    unsafe {
        let plugin = *modelferry_meek_v1();
        (plugin, *plugin.readers.ptr.cast::<MfReader>(), *plugin.writers.ptr.cast::<MfWriter>())
    }
}

/// Makes a call with the functions of the program, of which one struct is another.
pub(crate) fn with_call<T>(view: Option<&ModelView<'_>>, f: impl FnOnce(MfCall) -> T) -> Result<T> {
    let mut found = None;
    Call::make(&inputs(), Some(&mut Kind::default()), view, |call| {
        Told::by(|report| {
            found = Some(f(call(report)));
            MF_OK
        })
        .map(drop)
    })?;
    found.ok_or_else(|| Error::plugin("no call"))
}

/// Has the reader read; gives whether it did.
pub(crate) fn read(call: &MfCall, model: *mut MfModel) -> bool {
    let (_, reader, _) = tables();
    let none = MfSlice { ptr: ptr::null(), len: 0, stride: 0 };
    // SAFETY: the tables are what they say, and so is what is passed.
    let done = unsafe { reader.read.unwrap()(reader.owner, call, none, model) } == MF_OK;
    // SAFETY: as above.
    unsafe { reader.identify.unwrap()(reader.owner, call) };
    done
}

pub(crate) fn room() -> MfModel {
    MfModel { struct_size: size_of::<MfModel>() as u64, ..zeroed() }
}

pub(crate) fn release(model: &MfModel) {
    if let Some(release) = model.release {
        // SAFETY: its own owner, once.
        unsafe { release(model.owner) }
    }
}
