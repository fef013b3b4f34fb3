//! Names: of staging folders, and of the files that together are one output.

use sha2::{Digest as _, Sha256};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Bytes kept free behind a staging folder's prefix: two numbers and a dash.
const NUMBERS: usize = 20;
const MARK: &[u8] = b".partial-";

/// The beginning of the staging names of the output `name`: `.NAME.partial-`, with a hash in place of the end of a
/// name that would exceed `limit` bytes.
pub(super) fn staging_prefix(name: &OsStr, limit: usize) -> OsString {
    let bytes = name.as_bytes();
    let room = limit.saturating_sub(1 + MARK.len() + NUMBERS);
    let mut prefix = vec![b'.'];
    if bytes.len() <= room {
        prefix.extend_from_slice(bytes);
    } else {
        let hash = Sha256::digest(bytes);
        let mut cut = room.saturating_sub(17);
        // Some file systems refuse half a character. In UTF-8 it has at most three bytes that continue it.
        for _ in 0..3 {
            cut -= usize::from(cut > 0 && bytes[cut] & 0xc0 == 0x80);
        }
        prefix.extend_from_slice(&bytes[..cut]);
        prefix.push(b'~');
        prefix.extend(hash[..8].iter().flat_map(|byte| format!("{byte:02x}").into_bytes()));
    }
    prefix.extend_from_slice(MARK);
    OsString::from_vec(prefix)
}

/// The staging folder number `n` of this process.
pub(super) fn staging_name(prefix: &OsStr, n: u64) -> OsString {
    let mut name = prefix.to_owned();
    name.push(format!("{}-{n}", std::process::id()));
    name
}

/// Whether `name` is a staging folder of the output with this prefix, of whatever process.
pub(super) fn is_staging(name: &OsStr, prefix: &OsStr) -> bool {
    let number = |bytes: &[u8]| !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
    name.as_bytes().strip_prefix(prefix.as_bytes()).is_some_and(|rest| {
        let mut numbers = rest.split(|&byte| byte == b'-');
        let two = numbers.next().is_some_and(number) && numbers.next().is_some_and(number);
        two && numbers.next().is_none()
    })
}

/// What the forms of one output have in common: `model.safetensors`, `model-00001-of-00002.safetensors` and
/// `model.safetensors.index.json` are all of stem `model` and extension `safetensors`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Family {
    stem: String,
    extension: Option<String>,
}

/// How a file takes part in its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Single,
    Shard,
    Index,
}

/// The family of a file name, read as generously as the forms allow.
pub(super) fn family(name: &str) -> (Family, Form) {
    let split = |name: &str| match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => (stem.to_owned(), Some(extension.to_owned())),
        _ => (name.to_owned(), None),
    };
    if let Some(weights) = name.strip_suffix(".index.json").filter(|weights| !weights.is_empty()) {
        let (stem, extension) = split(weights);
        return (Family { stem, extension }, Form::Index);
    }
    let (stem, extension) = split(name);
    // External data of ONNX, as transformers.js counts its files: model.onnx_data, model.onnx_data_1.
    if let Some((model, number)) = extension.as_ref().and_then(|extension| extension.split_once("_data"))
        && !model.is_empty()
        && (number.is_empty() || number.strip_prefix('_').is_some_and(|n| n.parse::<u32>().is_ok()))
    {
        return (Family { stem, extension: Some(model.to_owned()) }, Form::Shard);
    }
    // huggingface_hub and gguf-split both write five digits, more only where five do not do.
    let is_count = |text: &str| text.len() >= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let shard = stem.rsplit_once("-of-").and_then(|(rest, total)| {
        let (stem, number) = rest.rsplit_once('-')?;
        (is_count(number) && is_count(total) && !stem.is_empty()).then(|| stem.to_owned())
    });
    match shard {
        Some(stem) => (Family { stem, extension }, Form::Shard),
        None => (Family { stem, extension }, Form::Single),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staging_names_fit_and_are_recognized() {
        for len in [1, 100, 224, 225, 226, 255] {
            let name = "é".repeat(128)[..len / 2 * 2].to_owned() + if len % 2 == 1 { "x" } else { "" };
            let prefix = staging_prefix(name.as_ref(), 255);
            let staging = staging_name(&prefix, 123_456_789);
            assert!(staging.len() <= 255, "{len}");
            assert!(staging.to_str().is_some(), "half a character");
            assert!(is_staging(&staging, &prefix));
        }
        let long = |end: &str| staging_prefix(format!("{}{end}", "a".repeat(250)).as_ref(), 255);
        assert_ne!(long("1"), long("2"));
        let prefix = staging_prefix("m".as_ref(), 255);
        assert_eq!(prefix, ".m.partial-");
        for stranger in [
            ".m.partial-",
            ".m.partial-1",
            ".m.partial-1-",
            ".m.partial-1-2-3",
            ".m.partial-1-x",
            ".n.partial-1-2",
        ] {
            assert!(!is_staging(stranger.as_ref(), &prefix), "{stranger}");
        }
    }

    #[test]
    fn the_forms_of_one_output_are_one_family() {
        let names = [
            ("model.safetensors", Form::Single),
            ("model-00001-of-00002.safetensors", Form::Shard),
            ("model.safetensors.index.json", Form::Index),
        ];
        for (name, form) in names {
            assert_eq!(
                family(name),
                (Family { stem: "model".into(), extension: Some("safetensors".into()) }, form)
            );
        }
        for stranger in
            ["model-1-of-2.safetensors", "model2.safetensors", "model.bin", "my-model.safetensors"]
        {
            assert_ne!(family(stranger).0, family("model.safetensors").0, "{stranger}");
        }
        for data in ["m.onnx_data", "m.onnx_data_1"] {
            assert_eq!(family(data), (family("m.onnx").0, Form::Shard), "{data}");
        }
        for stranger in ["m.onnx_data_x", "m._data", "m.onnx_dat", "m.onnx_database"] {
            assert_ne!(family(stranger).0, family("m.onnx").0, "{stranger}");
        }
        assert_eq!(family(".index.json").1, Form::Single);
        assert_eq!(family("-00001-of-00002.x").1, Form::Single);
    }
}
