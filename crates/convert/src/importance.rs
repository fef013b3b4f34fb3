//! `--imatrix FILE`: an importance matrix in either of its forms.

use crate::job::{Context, PluginOptions};
use crate::open::{Opened, open};
use modelferry_core::model::Tensor;
use modelferry_core::{DType, Error, Result};
use modelferry_engine::read_items;
use modelferry_transform::quantize::Importance;
use std::collections::HashMap;
use std::io::Read as _;
use std::path::Path;

/// Endings of the names under which the GGUF form keeps a tensor's sums and counts.
const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

/// Reads an importance matrix: the GGUF form by its reader, everything else as the older form.
///
/// It is held whole: it is as large as one row of each tensor.
///
/// Errors: those of reading; [`Malformed`](modelferry_core::ErrorKind::Malformed) for a GGUF file that is a model, or a
/// file that is neither form.
pub fn importance(cx: &Context<'_>, path: &Path) -> Result<Importance> {
    let mut start = [0; 4];
    let of_file = |error| Error::io("--imatrix: reading", error).file(path.display());
    let mut file = std::fs::File::open(path).map_err(of_file)?;
    let len = file.metadata().map_err(of_file)?.len();
    let is_gguf = file.read_exact(&mut start).is_ok() && start == *b"GGUF";
    let found = if is_gguf { of_gguf(cx, path)? } else { of_legacy(cx, path, len)? };
    if found.is_empty() {
        return Err(Error::malformed("--imatrix: there is no importance matrix in it").file(path.display()));
    }
    Ok(found)
}

fn of_legacy(cx: &Context<'_>, path: &Path, len: u64) -> Result<Importance> {
    let most = cx.settings.limits.header_bytes;
    if len > most {
        return Err(Error::limit("--imatrix: the file is too long")
            .file(path.display())
            .expected(format_args!("at most {most}"))
            .found(len));
    }
    let bytes =
        std::fs::read(path).map_err(|error| Error::io("--imatrix: reading", error).file(path.display()))?;
    Importance::parse_legacy(&bytes)
        .map_err(|error| error.file(path.display()).hint("--imatrix takes the output of llama-imatrix"))
}

fn of_gguf(cx: &Context<'_>, path: &Path) -> Result<Importance> {
    let opened = open(cx, path, Some("gguf"), &PluginOptions::default())?;
    let of_floats = opened.model.tensors.iter().filter(|tensor| tensor.dtype == DType::F32);
    let by_name: HashMap<&str, &Tensor> = of_floats.map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let mut found = Importance::default();
    for (name, sums) in &by_name {
        let Some(name) = name.strip_suffix(SUMS) else { continue };
        let counts = by_name.get(format!("{name}{COUNTS}").as_str()).ok_or_else(|| {
            Error::malformed("--imatrix: sums without counts").file(path.display()).tensor(name)
        })?;
        let (sums, counts) = (floats(cx, &opened, sums)?, floats(cx, &opened, counts)?);
        found.add(name, sums, &counts).map_err(|error| error.file(path.display()))?;
    }
    Ok(found)
}

/// Values of a tensor of f32.
fn floats(cx: &Context<'_>, opened: &Opened, tensor: &Tensor) -> Result<Vec<f32>> {
    /// What the engine answers at once.
    const CHUNK: u64 = 1 << 16;
    let n = tensor.n_elements();
    let mut found = vec![];
    for at in (0..n).step_by(CHUNK as usize) {
        let bytes = read_items(opened.source(), cx.settings, tensor.data, at, CHUNK.min(n - at))?;
        found.extend(bytes.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)));
    }
    Ok(found)
}
