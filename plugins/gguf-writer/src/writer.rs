//! Model -> headers and pieces.

use crate::metadata::{self, Entries};
use crate::parts;
use modelferry_core::error::listed;
use modelferry_core::layout::{Layout, Piece};
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{ModelView, TensorIdx, TensorView, Value};
use modelferry_core::plugin::{Carries, Host, LayoutRequest, MetadataForm, Place, Writer, WriterInfo};
use modelferry_core::{Error, Result};
use modelferry_hf::output;
use modelferry_wire::gguf::{
    ALIGNMENT, ARCHITECTURE, DEFAULT_ALIGNMENT, DTYPES, MAX_DIMS, NewEntry, SPLIT_COUNT, SPLIT_NO,
    SPLIT_TENSORS, alignment, write_header,
};

/// The GGUF writer.
#[derive(Clone, Copy, Debug)]
pub struct GgufWriter;

static INFO: WriterInfo = WriterInfo {
    format: "gguf",
    about: "GGUF files of llama.cpp, single or split",
    extensions: &[".gguf"],
    place: Place::File,
    options: &[],
    dtypes: &DTYPES,
    max_rank: MAX_DIMS,
    max_tensors: u64::MAX,
    names: Carries::Yes,
    ties: Carries::No,
    metadata: MetadataForm::Typed,
    tree: Carries::No,
    graph: Carries::No,
    config: Carries::No,
    assets: Carries::No,
    shards: Carries::Yes,
};

impl Writer for GgufWriter {
    fn info(&self) -> &'static WriterInfo {
        &INFO
    }

    fn layout(
        &self,
        view: &ModelView<'_>,
        request: &LayoutRequest<'_>,
        _host: &mut dyn Host,
    ) -> Result<(Layout, Vec<Loss>)> {
        check_tensors(view)?;
        let parts = parts::plan(view, request.shards, metadata::alignment_of(view));
        let entries = Entries::of(view, parts.len() == 1);
        let mut layout = Layout::default();
        match &parts[..] {
            [tensors] => {
                let (path, alignment) = (request.file_name.to_owned(), entries.alignment);
                push_file(&mut layout, view, path, &entries.all(), tensors, alignment)?;
            }
            _ => push_parts(&mut layout, view, request.file_name, &entries, &parts)?,
        }
        let mut losses = entries.losses.clone();
        if !parts.iter().flatten().is_sorted() {
            let detail = "tensors are read back part by part";
            losses.push(Loss::declared(LossKind::Order, request.file_name, detail));
        }
        if !entries.has(ARCHITECTURE) {
            layout.notes.push(format!(
                "the output names no {ARCHITECTURE}: it holds the tensors as they are, and llama.cpp will not run it"
            ));
        }
        Ok((layout, losses))
    }

    fn relayout(&self, view: &ModelView<'_>, file_name: &str, _host: &mut dyn Host) -> Result<Layout> {
        check_tensors(view)?;
        let metadata: Vec<(&str, &Value)> =
            view.metadata().iter().map(|(key, value)| (&**key, value)).collect();
        let alignment = match metadata.iter().find(|(key, _)| *key == ALIGNMENT) {
            None => DEFAULT_ALIGNMENT,
            Some((_, value)) => alignment(value).ok_or_else(|| {
                Error::target(format!("ggml does not take this {ALIGNMENT}"))
                    .expected("a u32, a power of two")
                    .found(format_args!("{} {value}", value.type_name()))
            })?,
        };
        let order: Vec<TensorIdx> = (0..view.tensors().len()).collect();
        let mut layout = Layout::default();
        push_file(&mut layout, view, file_name.to_owned(), &metadata, &order, alignment)?;
        Ok(layout)
    }
}

fn entry<'a>(tensor: TensorView<'a>) -> NewEntry<'a> {
    NewEntry { name: tensor.name(), dtype: tensor.dtype(), shape: tensor.shape() }
}

/// Fails with all tensors that the format cannot hold.
fn check_tensors(view: &ModelView<'_>) -> Result<()> {
    let mut unfit = view.tensors().filter_map(|tensor| Some((tensor, entry(tensor).check().err()?)));
    let Some((tensor, error)) = unfit.next() else { return Ok(()) };
    let others = listed(unfit.map(|(tensor, error)| format!("{} ({})", tensor.name(), error.what())));
    let error = error.tensor(tensor.name());
    Err(if others.is_empty() { error } else { error.hint(format!("as little can be held: {others}")) })
}

/// Adds a file of these tensors.
fn push_file(
    layout: &mut Layout,
    view: &ModelView<'_>,
    path: String,
    metadata: &[(&str, &Value)],
    tensors: &[TensorIdx],
    alignment: u64,
) -> Result<()> {
    let header = write_header(metadata, tensors.iter().map(|&idx| entry(view.tensor(idx))), alignment)?;
    let mut pieces: Vec<Piece> = header.parts.into_iter().map(Piece::Bytes).collect();
    let pad = |pieces: &mut Vec<Piece>, len: u64| {
        if len > 0 {
            pieces.push(Piece::Zero(len));
        }
    };
    pad(&mut pieces, header.padding);
    for &idx in tensors {
        let len = view.tensor(idx).byte_len();
        if len > 0 {
            pieces.push(Piece::tensor(view, idx));
            // The header has counted it.
            pad(&mut pieces, len.next_multiple_of(alignment) - len);
        }
    }
    layout.push_file(path, pieces);
    Ok(())
}

/// Adds the files of a set: the metadata is in the first, each says which it is.
fn push_parts(
    layout: &mut Layout,
    view: &ModelView<'_>,
    file_name: &str,
    entries: &Entries<'_>,
    parts: &[Vec<TensorIdx>],
) -> Result<()> {
    let too_many = |what: &'static str, n: usize, most: u64| {
        Error::target(what).expected(format_args!("at most {most}")).found(n)
    };
    let n_parts = u16::try_from(parts.len()).map_err(|_| {
        too_many("a split set has no more parts than fit its count", parts.len(), u16::MAX.into())
    })?;
    let n_tensors = view.tensors().len();
    let all_tensors = i32::try_from(n_tensors).map_err(|_| {
        too_many("a split set has no more tensors than fit its count", n_tensors, i32::MAX as u64)
    })?;
    let of_model = entries.all();
    let alignment = of_model.iter().find(|(key, _)| *key == ALIGNMENT).copied();
    for (no, tensors) in (0..n_parts).zip(parts) {
        let [no_value, count, all] = [Value::U16(no), Value::U16(n_parts), Value::I32(all_tensors)];
        let mut metadata = match no {
            0 => of_model.clone(),
            // Each file is aligned by what it says itself.
            _ => alignment.into_iter().collect(),
        };
        metadata.extend([(SPLIT_NO, &no_value), (SPLIT_COUNT, &count), (SPLIT_TENSORS, &all)]);
        let path = output::path(file_name, no.into(), n_parts.into());
        push_file(layout, view, path, &metadata, tensors, entries.alignment)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
