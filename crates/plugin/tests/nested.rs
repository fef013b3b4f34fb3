//! A model inside a model, twice over the boundary: a plugin in Rust that has the program read a file of a plugin in C,
//! and passes on what only that one can make.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what does not hold ends the test")]

mod support;

use modelferry_abi::export_plugin;
use modelferry_core::inputs::Inputs;
use modelferry_core::model::Model;
use modelferry_core::options::Options;
use modelferry_core::plugin::*;
use modelferry_core::{Error, Result};
use modelferry_plugin::Foreign;
use support::*;

/// Reads files that hold the name of another file, and nothing else.
struct Link;

impl Reader for Link {
    fn info(&self) -> &'static ReaderInfo {
        static INFO: ReaderInfo = ReaderInfo {
            format: "link",
            about: "",
            extensions: &[".link"],
            magic: &[],
            place: Place::File,
            options: &[],
        };
        &INFO
    }

    fn identify(&self, inputs: &dyn Inputs) -> Verdict {
        if inputs.name(inputs.root()).ends_with(".link") { Verdict::Content } else { Verdict::No }
    }

    fn read(&self, inputs: &dyn Inputs, _: &Options, host: &mut dyn Host) -> Result<Model> {
        let name = inputs.read_vec(inputs.root(), 0, inputs.len(inputs.root()), 1000)?;
        let file = inputs.open(&String::from_utf8_lossy(&name))?;
        let model = host.read(inputs, file)?;
        let runs = model.tensors.iter().find(|tensor| tensor.name == "runs");
        let runs = runs.ok_or_else(|| Error::malformed("no runs"))?.data;
        // The question is answered out of what the other plugin makes.
        match host.ask(&model, Query::Small { node: runs, at: 299, len: 2 })? {
            Answer::Bytes(bytes) if bytes == [7, 0, 0, 0, 0, 0, 0, 0] => Ok(model),
            other => Err(Error::malformed("another answer").found(format_args!("{other:?}"))),
        }
    }
}

export_plugin!(modelferry_link_v1, readers: [Link]);

#[test]
fn what_one_plugin_makes_another_passes_on() {
    let folder = scratch("nested");
    build_samples(&folder, &include());
    for name in ["tiny.flat", "tiny.flatdata"] {
        std::fs::copy(samples().join(name), folder.join(name)).unwrap();
    }
    std::fs::write(folder.join("one.link"), "tiny.flat").unwrap();
    std::fs::write(folder.join("two.link"), "one.link").unwrap();
    std::fs::write(folder.join("ring.link"), "ring.link").unwrap();
    let mut registry = registry(&folder).unwrap();
    let plugin = Foreign::linked(modelferry_link_v1).unwrap();
    plugin.readers.into_iter().for_each(|reader| registry.add_reader(reader));
    let output = |name: &str| folder.join(format!("{name}.safetensors"));
    convert(&registry, &folder.join("tiny.flat"), &output("tiny")).unwrap();
    let expected = std::fs::read(output("tiny")).unwrap();
    for name in ["one", "two"] {
        convert(&registry, &folder.join(format!("{name}.link")), &output(name)).unwrap();
        assert!(std::fs::read(output(name)).unwrap() == expected, "{name}");
    }
    let error = failure(convert(&registry, &folder.join("ring.link"), &output("ring")));
    assert!(error.to_string().contains("models inside of models"), "{error}");
}

#[test]
fn the_sanitizer_finds_nothing() {
    sanitized("what_one_plugin_makes_another_passes_on");
}
