//! What the target can hold, checked before its writer is asked.

use modelferry_core::error::listed;
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{ModelView, TensorView};
use modelferry_core::plugin::{Carries, MetadataForm, Shards, WriterInfo};
use modelferry_core::tree::beside_tensors;
use modelferry_core::{Error, Result};

/// What a target drops of the model: `info` says what its tensors can be, `whole` what it holds besides; they are one
/// but for a folder.
///
/// Errors: [`Target`](modelferry_core::ErrorKind::Target) naming tensor and missing capability.
pub(crate) fn check(
    view: &ModelView<'_>,
    shards: Shards,
    info: &WriterInfo,
    whole: &WriterInfo,
) -> Result<Vec<Loss>> {
    let named = |error: Error| error.format(info.format);
    if shards != Shards::One && info.shards == Carries::No {
        return Err(named(Error::target("the format cannot be split into several files")));
    }
    let n_tensors = view.tensors().len() as u64;
    if n_tensors > info.max_tensors {
        return Err(named(
            Error::target("the format cannot hold so many tensors")
                .expected(format_args!("at most {}", info.max_tensors))
                .found(n_tensors)
                .hint("choose some with --include"),
        ));
    }
    let mut losses = vec![];
    // Names are the writer's to speak of: one without a place for them may still come back, from the file's name.
    let unfit = |tensor: &TensorView<'_>| !info.dtypes.contains(&tensor.dtype());
    if let Some(first) = view.tensors().find(unfit) {
        let known: Vec<String> = info.dtypes.iter().map(ToString::to_string).collect();
        let found = with_others(view, first, unfit, |tensor| tensor.dtype().to_string());
        let hint = if modelferry_transform::holds_floats(first.dtype()) {
            "cast it with --dtype, or leave it out with --exclude"
        } else {
            "leave it out with --exclude"
        };
        let error = Error::target("the format cannot store this type").tensor(first.name());
        return Err(named(error.expected(known.join(" ")).found(found).hint(hint)));
    }
    let unfit = |tensor: &TensorView<'_>| tensor.shape().len() > info.max_rank;
    if let Some(first) = view.tensors().find(unfit) {
        let found = with_others(view, first, unfit, |tensor| tensor.shape().len().to_string());
        let error = Error::target("the format cannot store so many dimensions").tensor(first.name());
        return Err(named(error.expected(format_args!("at most {}", info.max_rank)).found(found)));
    }
    if info.metadata == MetadataForm::None {
        for (key, _) in view.metadata() {
            losses.push(Loss::declared(
                LossKind::Metadata,
                key,
                format!("{} holds no metadata", info.format),
            ));
        }
    }
    if let (Carries::No, Some(tree)) = (info.tree, view.tree()) {
        for part in beside_tensors(tree) {
            losses.push(Loss::declared(LossKind::Tree, part.path, format!("{}, not carried", part.what)));
        }
    }
    if let Some(graph) = view.graph().filter(|graph| !info.carries_graph(graph.dialect)) {
        for part in &graph.parts {
            losses.push(Loss::declared(LossKind::Graph, &part.path, format!("{}, not carried", part.what)));
        }
    }
    if !view.graph().is_some_and(|graph| info.carries_graph(graph.dialect)) {
        losses.extend(view.codes().iter().map(|codes| {
            let tensor = view.tensor(codes.tensor);
            let what = format!("codes of {}, {}", codes.operator, codes.groups.text());
            let detail =
                format!("{what}, would be plain {}; --dtype f32 for what they stand for", tensor.dtype());
            Loss::declared(LossKind::Dtype, tensor.name(), detail)
        }));
    }
    // What surrounds the tensors is the whole's to hold: of a folder, beside its weights.
    let config = view.config().filter(|_| whole.config == Carries::No).map(|_| "config.json");
    let assets = view.assets().filter(|_| whole.assets == Carries::No).map(|(name, _)| name);
    for name in config.into_iter().chain(assets) {
        let detail =
            format!("a file is written, and this belongs to its folder, which {} has none of", whole.format);
        losses.push(Loss::declared(LossKind::Asset, name, detail));
    }
    if info.ties == Carries::No && !view.ties().is_empty() {
        // The transform settles ties for the target; one that is left would be lost without a word.
        return Err(named(Error::plugin("a tie is left for a format that holds none")));
    }
    Ok(losses)
}

/// What is wrong with the first tensor, and with some others: patterns that leave out what must be are written from a
/// few names.
fn with_others(
    view: &ModelView<'_>,
    first: TensorView<'_>,
    unfit: impl Fn(&TensorView<'_>) -> bool,
    what: impl Fn(&TensorView<'_>) -> String,
) -> String {
    let others = view.tensors().filter(unfit).skip(1);
    let others = listed(others.map(|tensor| format!("{} ({})", tensor.name(), what(&tensor))));
    let found = what(&first);
    if others.is_empty() { found } else { format!("{found}; also {others}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelferry_core::DType;
    use modelferry_core::limits::Limits;
    use modelferry_core::model::Model;
    use modelferry_core::plugin::Place;

    const FLOATS: WriterInfo = WriterInfo {
        format: "floats",
        about: "",
        extensions: &[],
        place: Place::File,
        options: &[],
        dtypes: &[DType::F32, DType::Bf16],
        max_rank: 8,
        max_tensors: 8,
        names: Carries::Yes,
        ties: Carries::No,
        metadata: MetadataForm::None,
        tree: Carries::No,
        graph: Carries::No,
        config: Carries::No,
        assets: Carries::No,
        shards: Carries::No,
    };

    /// Blocks that a format cannot hold are refused with a word about what `--dtype` makes of them.
    #[test]
    fn hints_name_what_would_help() {
        let refusal = |dtype: DType| {
            let mut model = Model::default();
            let bytes = model.nodes.inline(vec![0; dtype.packed_len(256).unwrap() as usize]).unwrap();
            let data =
                model.nodes.decode(bytes, dtype, dtype.items(256).unwrap(), Default::default()).unwrap();
            model.push("x", dtype, vec![256], data).unwrap();
            let view = ModelView::new(&model, &Limits::default()).unwrap();
            let error = check(&view, Shards::One, &FLOATS, &FLOATS).unwrap_err();
            assert_eq!(error.kind(), modelferry_core::ErrorKind::Target);
            error.to_string()
        };
        let text = "floats: tensor \"x\": the format cannot store this type, expected f32 bf16, found";
        let cast = "(cast it with --dtype, or leave it out with --exclude)";
        assert_eq!(refusal(DType::Q4K), format!("{text} q4_k {cast}"));
        assert_eq!(refusal(DType::F16), format!("{text} f16 {cast}"));
        assert_eq!(refusal(DType::I8), format!("{text} i8 (leave it out with --exclude)"));
    }
}
