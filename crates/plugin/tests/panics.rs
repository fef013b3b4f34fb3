//! A plugin in Rust that panics wherever it can: an error of one run each, through the boundary, and never the end of
//! the program.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what does not hold ends the test")]

mod support;

use modelferry_abi::export_plugin;
use modelferry_core::epilogue::{Outcome, SmallFile};
use modelferry_core::expr::SourceAccess;
use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::layout::Layout;
use modelferry_core::loss::Loss;
use modelferry_core::model::{Model, ModelView, PayloadSource};
use modelferry_core::options::Options;
use modelferry_core::plugin::*;
use modelferry_core::registry::Registry;
use modelferry_core::{DType, ErrorKind, Result};
use modelferry_plugin::Foreign;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use support::*;

/// What is thrown, and panics again when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the bomb");
    }
}

static DROPPED: AtomicU64 = AtomicU64::new(0);

struct Source(&'static str);

impl PayloadSource for Source {
    fn read_at(&self, _: &dyn Inputs, _: u64, _: u64, out: &mut [u8]) -> Result<()> {
        match self.0 {
            "make" => panic!("while making bytes"),
            "bomb" => std::panic::panic_any(Bomb),
            _ => out.fill(0),
        }
        Ok(())
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::Relaxed);
        if self.0 == "drop" {
            panic!("while being dropped");
        }
    }
}

/// The misbehaviour that a file names.
fn how(inputs: &dyn Inputs) -> &'static str {
    let text = inputs.read_vec(inputs.root(), 0, inputs.len(inputs.root()), 100).unwrap();
    ["identify", "read", "make", "bomb", "drop", "good"]
        .into_iter()
        .find(|how| text == how.as_bytes())
        .expect("a file that names one")
}

struct Panics;

impl Reader for Panics {
    fn info(&self) -> &'static ReaderInfo {
        static INFO: ReaderInfo = ReaderInfo {
            format: "panics",
            about: "",
            extensions: &[".panics"],
            magic: &[],
            place: Place::File,
            options: &[],
        };
        &INFO
    }

    fn identify(&self, inputs: &dyn Inputs) -> Verdict {
        assert!(how(inputs) != "identify", "while identifying");
        Verdict::Content
    }

    fn read(&self, inputs: &dyn Inputs, _: &Options, _: &mut dyn Host) -> Result<Model> {
        let how = how(inputs);
        assert!(how != "read" && how != "identify", "while reading");
        let mut model = Model::default();
        for name in ["a", "b"] {
            let source = model.sources.len() as u32;
            model.sources.push(Arc::new(Source(how)));
            let bytes = model.nodes.plugin(source, 0, SourceAccess::Random { grain: 1 }, 8)?;
            let data = model.nodes.decode(bytes, DType::F32, 2, Default::default())?;
            model.push(name, DType::F32, vec![2], data)?;
        }
        Ok(model)
    }
}

impl Writer for Panics {
    fn info(&self) -> &'static WriterInfo {
        static INFO: WriterInfo = WriterInfo {
            format: "panics",
            about: "",
            extensions: &[".panics"],
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
        _: &ModelView<'_>,
        _: &LayoutRequest<'_>,
        _: &mut dyn Host,
    ) -> Result<(Layout, Vec<Loss>)> {
        panic!("while laying out")
    }

    fn relayout(&self, _: &ModelView<'_>, _: &str, _: &mut dyn Host) -> Result<Layout> {
        panic!("while laying out again")
    }

    fn epilogue(&self, _: &Outcome) -> Result<Vec<SmallFile>> {
        panic!("while reporting")
    }
}

/// Panics when it is asked what it is.
struct Nameless;

impl Reader for Nameless {
    fn info(&self) -> &'static ReaderInfo {
        panic!("while being asked what it is")
    }

    fn identify(&self, _: &dyn Inputs) -> Verdict {
        Verdict::No
    }

    fn read(&self, _: &dyn Inputs, _: &Options, _: &mut dyn Host) -> Result<Model> {
        Ok(Model::default())
    }
}

export_plugin!(modelferry_panics_v1, readers: [Panics], writers: [Panics]);

mod nameless {
    use super::{Nameless, export_plugin};

    export_plugin!(modelferry_nameless_v1, readers: [Nameless]);
}

fn registry() -> Registry {
    let mut registry = Registry::default();
    safetensors_writer::register(&mut registry);
    safetensors_reader::register(&mut registry);
    let plugin = Foreign::linked(modelferry_panics_v1).unwrap();
    plugin.readers.into_iter().for_each(|reader| registry.add_reader(reader));
    plugin.writers.into_iter().for_each(|writer| registry.add_writer(writer));
    registry
}

#[test]
fn a_panic_is_an_error_of_one_run() {
    let (folder, registry) = (scratch("panics"), registry());
    let output = folder.join("out.safetensors");
    let cases = [
        ("identify", Some("while reading")),
        ("read", Some("while reading")),
        ("make", Some("while making bytes")),
        ("bomb", Some("a panic, found nothing")),
        ("drop", None),
        ("good", None),
    ];
    for (how, expected) in cases {
        let input = folder.join("in.panics");
        std::fs::write(&input, how).unwrap();
        DROPPED.store(0, Ordering::Relaxed);
        match (convert(&registry, &input, &output), expected) {
            (Ok(_), None) => std::fs::remove_file(&output).unwrap(),
            (Err(error), Some(words)) => {
                assert!(
                    error.kind() == ErrorKind::Plugin && error.to_string().contains(words),
                    "{how}: {error}"
                );
            }
            (found, _) => panic!("{how}: {:?}", found.map(|report| report.losses)),
        }
        assert_eq!(
            DROPPED.load(Ordering::Relaxed) % 2,
            0,
            "{how}: each source is dropped, though one panics"
        );
        assert_eq!(
            DROPPED.load(Ordering::Relaxed) == 2,
            ["make", "bomb", "drop", "good"].contains(&how),
            "{how}"
        );
    }
    let good = folder.join("good.safetensors");
    std::fs::write(folder.join("in.panics"), "good").unwrap();
    convert(&registry, &folder.join("in.panics"), &good).unwrap();
    let error = failure(convert(&registry, &good, &folder.join("out.panics")));
    assert_eq!(
        (error.kind(), error.to_string().contains("while laying out")),
        (ErrorKind::Plugin, true),
        "{error}"
    );
}

#[test]
fn a_writer_may_panic_when_metadata_is_edited() {
    let (model, registry) = (Model::default(), registry());
    let view = ModelView::new(&model, &Default::default()).unwrap();
    let error = failure(registry.writer("panics").unwrap().relayout(&view, "x", &mut NoHost::default()));
    assert!(error.to_string().contains("while laying out again"), "{error}");
}

#[test]
fn a_writer_may_panic_when_all_is_written() {
    let registry = registry();
    let error = failure(registry.writer("panics").unwrap().epilogue(&Outcome::default()));
    assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Plugin, "a panic, found while reporting"));
}

#[test]
fn a_plugin_that_cannot_say_what_it_is_is_none() {
    let error = failure(Foreign::linked(nameless::modelferry_nameless_v1));
    assert_eq!(error.kind(), ErrorKind::Plugin);
}

/// A program whose every function panics.
struct Broken;

impl Inputs for Broken {
    fn root(&self) -> FileId {
        panic!("root")
    }

    fn open(&self, _: &str) -> Result<FileId> {
        panic!("open")
    }

    fn list(&self, _: &str) -> Result<Vec<String>> {
        panic!("list")
    }

    fn name(&self, _: FileId) -> String {
        panic!("name")
    }

    fn len(&self, _: FileId) -> u64 {
        panic!("len")
    }

    fn read_at(&self, _: FileId, _: u64, _: &mut [u8]) -> Result<()> {
        panic!("read_at")
    }
}

#[test]
fn a_panic_of_the_program_does_not_run_through_a_plugin() {
    let registry = registry();
    let reader = registry.readers().find(|reader| reader.info().format == "panics").unwrap();
    let error = failure(reader.read(&Broken, &Options::default(), &mut NoHost::default()));
    assert_eq!(error.kind(), ErrorKind::Plugin);
}
