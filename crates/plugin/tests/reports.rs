//! Reports over the boundary: by a plugin, and by a plugin whose layout another one has taken in.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what does not hold ends the test")]

mod support;

use modelferry_abi::export_plugin;
use modelferry_convert::Job;
use modelferry_core::epilogue::{Outcome, SmallFile};
use modelferry_core::layout::{Digest, DigestAlgo, FileRange, Layout, Piece};
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::ModelView;
use modelferry_core::plugin::*;
use modelferry_core::registry::Registry;
use modelferry_core::{DType, Result};
use modelferry_plugin::{Foreign, trust};
use std::path::Path;
use support::*;

const INFO: WriterInfo = WriterInfo {
    format: "inner",
    about: "",
    extensions: &[".inner"],
    place: Place::File,
    options: &[],
    dtypes: &[DType::F16, DType::F32, DType::I32],
    max_rank: 8,
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

/// Adds a file, a digest over it, and the promise of a report.
fn report_on(layout: &mut Layout, name: &str, pieces: Vec<Piece>) {
    let file = layout.push_file(name, pieces);
    let over = FileRange { file, bytes: 0..layout.files[file].len };
    layout.digests.push(Digest { algo: DigestAlgo::Sha256, over });
    layout.promise(format!("{name}.report"), 1000);
}

/// All that is known.
fn report(outcome: &Outcome) -> Vec<SmallFile> {
    let mut text = String::new();
    for digested in &outcome.digests {
        let hex: String = digested.value.iter().map(|byte| format!("{byte:02x}")).collect();
        text += &format!("{hex} {}\n", outcome.files[digested.digest.over.file].path);
    }
    for seen in &outcome.tensors {
        text += &format!("{} {} {} {}\n", seen.name, seen.dtype, seen.overflow, seen.underflow);
    }
    outcome.losses.iter().for_each(|loss| text += &format!("{loss}\n"));
    vec![SmallFile { path: outcome.promises[0].path.clone(), text }]
}

/// Writes tensors, one behind the other.
struct Inner;

impl Writer for Inner {
    fn info(&self) -> &'static WriterInfo {
        &INFO
    }

    fn layout(
        &self,
        view: &ModelView<'_>,
        request: &LayoutRequest<'_>,
        _: &mut dyn Host,
    ) -> Result<(Layout, Vec<Loss>)> {
        let mut layout = Layout::default();
        let pieces = (0..view.tensors().len()).map(|idx| Piece::tensor(view, idx)).collect();
        report_on(&mut layout, &format!("{}.data", request.file_name), pieces);
        Ok((layout, vec![]))
    }

    fn epilogue(&self, outcome: &Outcome) -> Result<Vec<SmallFile>> {
        Ok(report(outcome))
    }
}

/// Writes a title, has the other one write the tensors, and reports on both files.
struct Outer;

impl Writer for Outer {
    fn info(&self) -> &'static WriterInfo {
        static OWN: WriterInfo = WriterInfo { format: "outer", extensions: &[".outer"], ..INFO };
        &OWN
    }

    fn layout(
        &self,
        view: &ModelView<'_>,
        request: &LayoutRequest<'_>,
        host: &mut dyn Host,
    ) -> Result<(Layout, Vec<Loss>)> {
        let (inner, losses) = host.layout(view, "inner", request)?;
        let mut layout = Layout::default();
        report_on(&mut layout, request.file_name, vec![Piece::Bytes((*b"a title\n").into())]);
        layout.append(inner);
        Ok((layout, losses))
    }

    fn epilogue(&self, outcome: &Outcome) -> Result<Vec<SmallFile>> {
        Ok(report(outcome))
    }
}

export_plugin!(modelferry_reports_v1, writers: [Inner, Outer]);

/// Both writers, linked in or over the boundary.
fn registries(folder: &Path) -> [Registry; 2] {
    let [mut linked, mut called] = [(); 2].map(|()| registry(folder).unwrap());
    linked.add_writer(Inner);
    linked.add_writer(Outer);
    for writer in Foreign::linked(modelferry_reports_v1).unwrap().writers {
        called.add_writer(writer);
    }
    [linked, called]
}

#[test]
fn both_have_the_reports_that_they_promised() {
    let folder = scratch("reports");
    build_samples(&folder, &include());
    for name in ["tiny.flat", "tiny.flatdata"] {
        std::fs::copy(samples().join(name), folder.join(name)).unwrap();
    }
    let mut texts = vec![];
    for (n, registry) in registries(&folder).iter().enumerate() {
        let out = folder.join(format!("out{n}"));
        std::fs::create_dir(&out).unwrap();
        let mut job = Job {
            input: folder.join("tiny.flat"),
            output: out.join("m.outer"),
            from: Some("flat".to_owned()),
            ..Job::default()
        };
        job.edits.dtype = Some(DType::F16);
        job.policy.allow.insert(LossKind::Overflow);
        let done = convert_as(registry, &job).unwrap();
        let names: Vec<&str> = done.files.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["m.outer", "m.outer.data", "m.outer.report", "m.outer.data.report"]);
        let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
        let sum = |name: &str| format!("{} {name}\n", trust::sha256(&out.join(name)).unwrap());
        let seen = "matrix f16 1 0\noverflow: matrix: 1 of 6 values do not fit f16\n";
        let inner = sum("m.outer.data") + seen;
        assert_eq!(read("m.outer.data.report"), inner);
        assert_eq!(read("m.outer.report"), sum("m.outer") + &inner);
        texts.push([read("m.outer.report"), read("m.outer.data.report")]);
    }
    assert_eq!(texts[0], texts[1]);
}

#[test]
fn the_sanitizer_finds_nothing() {
    sanitized("both_have_the_reports_that_they_promised");
}
