//! What the target can hold, checked before its writer is asked.

use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::ModelView;
use modelferry_core::plugin::{Carries, Shards, WriterInfo};
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
    for tensor in view.tensors() {
        if !info.dtypes.contains(&tensor.dtype()) {
            let known: Vec<String> = info.dtypes.iter().map(ToString::to_string).collect();
            let error = Error::target("the format cannot store this type")
                .tensor(tensor.name())
                .expected(known.join(" "))
                .found(tensor.dtype());
            let hint = if modelferry_transform::holds_floats(tensor.dtype()) {
                "cast it with --dtype, or leave it out with --exclude"
            } else {
                "leave it out with --exclude"
            };
            return Err(named(error.hint(hint)));
        }
        if tensor.shape().len() > info.max_rank {
            return Err(named(
                Error::target("the format cannot store so many dimensions")
                    .tensor(tensor.name())
                    .expected(format_args!("at most {}", info.max_rank))
                    .found(tensor.shape().len()),
            ));
        }
        // Names are the writer's to speak of: one without a place for them may still come back, from the file's name.
    }
    if info.metadata == Carries::No {
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
    if whole.assets == Carries::No {
        let config = view.config().map(|_| "config.json");
        for name in config.into_iter().chain(view.assets().map(|(name, _)| name)) {
            let detail = format!(
                "a file is written, and this belongs to its folder, which {} has none of",
                whole.format
            );
            losses.push(Loss::declared(LossKind::Asset, name, detail));
        }
    }
    if info.ties == Carries::No && !view.ties().is_empty() {
        // The transform settles ties for the target; one that is left would be lost without a word.
        return Err(named(Error::plugin("a tie is left for a format that holds none")));
    }
    Ok(losses)
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
        metadata: Carries::No,
        tree: Carries::No,
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
