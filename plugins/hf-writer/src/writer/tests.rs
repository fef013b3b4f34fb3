use super::*;
use modelferry_core::DType;
use modelferry_core::epilogue::{Maker, Promise};
use modelferry_core::layout::{Digest, DigestAlgo, FileRange, Patch, PatchForm};
use modelferry_core::limits::Limits;
use modelferry_core::model::Model;
use modelferry_core::options::Options;
use modelferry_core::plugin::{Answer, Query, Shards};

/// Writes weights as a file with a checksum, and an index; promises a report.
struct TwoFiles(Limits);

impl Host for TwoFiles {
    fn limits(&self) -> &Limits {
        &self.0
    }

    fn ask(&mut self, _: &Model, _: Query) -> Result<Answer> {
        Err(Error::unsupported("nothing is asked here"))
    }

    fn layout(
        &mut self,
        view: &ModelView<'_>,
        format: &str,
        request: &LayoutRequest<'_>,
    ) -> Result<(Layout, Vec<Loss>)> {
        let mut layout = Layout::default();
        let weights = layout.push_file(request.file_name, vec![Piece::tensor(view, 0), Piece::Zero(4)]);
        layout.root = layout.push_file(format!("{}.index.json", request.file_name), vec![]);
        layout
            .digests
            .push(Digest { algo: DigestAlgo::Crc32, over: FileRange { file: weights, bytes: 0..1 } });
        layout.patches.push(Patch { file: weights, at: 1, form: PatchForm::Raw, digest: 0 });
        layout.promise(format!("{}.report", request.file_name), 9);
        layout.sign(format);
        Ok((layout, vec![Loss::declared(LossKind::Order, format, "for a test")]))
    }
}

fn model(config: Option<&str>, assets: &[&str]) -> Model {
    let mut model = Model::default();
    let bytes = model.nodes.inline(vec![7]).unwrap();
    model.push("t", DType::U8, vec![1], bytes).unwrap();
    for name in assets {
        let data = model.nodes.inline(name.as_bytes().to_vec()).unwrap();
        model.push_asset(*name, data).unwrap();
    }
    model.config = config.map(Into::into);
    model
}

fn lay_out(model: &Model, weights: &str) -> Result<(Layout, Vec<String>)> {
    let view = ModelView::new(model, &Limits::default())?;
    let options = Options::default();
    let request = LayoutRequest { file_name: "out", weights, options: &options, shards: Shards::One };
    let (layout, losses) = HfWriter.layout(&view, &request, &mut TwoFiles(Limits::default()))?;
    layout.validate(&view)?;
    Ok((layout, losses.iter().map(ToString::to_string).collect()))
}

fn paths(layout: &Layout) -> Vec<&str> {
    layout.files.iter().map(|file| file.path.as_str()).collect()
}

#[test]
fn config_and_index_come_last() {
    let text = "{ \"a\":1 }";
    let (layout, losses) =
        lay_out(&model(Some(text), &["tokenizer.json", "1_Pooling/config.json"]), "safetensors").unwrap();
    let expected = [
        "tokenizer.json",
        "1_Pooling/config.json",
        "model.safetensors",
        "model.safetensors.index.json",
        "config.json",
    ];
    assert_eq!(paths(&layout), expected);
    assert_eq!((layout.root, &layout.supersedes[..]), (4, &["model.safetensors".to_owned()][..]));
    assert_eq!((layout.digests[0].over.file, layout.patches[0].file), (2, 2));
    let by = Maker { format: "safetensors".to_owned(), files: 2..4, digests: 0..1 };
    let report = Promise { path: "model.safetensors.report".to_owned(), at_most: 9, by: Some(by) };
    assert_eq!(layout.promises, [report]);
    assert!(matches!(&layout.files[4].pieces[..], [Piece::Bytes(bytes)] if **bytes == *text.as_bytes()));
    assert_eq!(losses, ["order: safetensors: for a test"]);
}

#[test]
fn weights_are_named_as_programs_look_for_them() {
    let (layout, _) = lay_out(&model(Some("{}"), &[]), "pytorch").unwrap();
    assert_eq!(paths(&layout)[0], "pytorch_model.bin");
    assert_eq!(layout.supersedes, ["pytorch_model.bin", "model.safetensors"]);
    let (layout, losses) = lay_out(&model(None, &["adapter_config.json"]), "safetensors").unwrap();
    assert_eq!((paths(&layout)[1], losses.len()), ("adapter_model.safetensors", 1));
    let (layout, losses) = lay_out(&model(None, &[]), "npz").unwrap();
    assert_eq!((paths(&layout)[0], layout.root), ("model.npz", 1));
    assert_eq!(losses[1], "asset: config.json: there is none, and transformers needs one to load the folder");
}

#[test]
fn a_config_does_not_name_files_that_are_not_there() {
    let (layout, losses) =
        lay_out(&model(Some("{\"transformers_weights\": \"x.safetensors\"}"), &[]), "safetensors").unwrap();
    assert!(
        matches!(&layout.files[layout.root].pieces[..], [Piece::Bytes(bytes)] if **bytes == *b"{\"transformers_weights\": null}")
    );
    assert!(losses[1].starts_with("asset: config.json: transformers_weights"));
}

#[test]
fn names_of_strangers_are_checked() {
    for name in [
        "../x",
        "/x",
        "a/../b",
        "",
        "model.safetensors",
        "config.json",
        "model.safetensors/x",
        "model.safetensors.report",
        "model.safetensors.report/x",
        "a\0",
    ] {
        let error = lay_out(&model(Some("{}"), &[name]), "safetensors").unwrap_err();
        assert_eq!(error.kind(), modelferry_core::ErrorKind::Target, "{name}: {error}");
    }
    assert!(lay_out(&model(Some("{}"), &["a:b", "c\\d"]), "safetensors").is_ok());
}
