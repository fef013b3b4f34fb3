use super::*;
use modelferry_core::DType;
use modelferry_core::inputs::MemInputs;
use modelferry_core::plugin::SilentHost;
use modelferry_wire::gguf::{NewEntry, write_header};
use std::collections::BTreeMap;

/// A file of these entries and f32 tensors of one element.
fn file(entries: &[(&str, Value)], tensors: &[&str]) -> Vec<u8> {
    let entries: Vec<(&str, &Value)> = entries.iter().map(|(key, value)| (*key, value)).collect();
    let tensors = tensors.iter().map(|&name| NewEntry { name, dtype: DType::F32, shape: &[1] });
    let n_tensors = tensors.len();
    let written = write_header(&entries, tensors, 32).unwrap();
    let mut bytes = written.parts.concat();
    bytes.resize(bytes.len() + written.padding as usize + 32 * n_tensors, 0);
    bytes
}

fn part(no: u16, n_parts: u16, n_tensors: i32, more: &[(&str, Value)], tensors: &[&str]) -> Vec<u8> {
    let set = [
        (SPLIT_NO, Value::U16(no)),
        (SPLIT_COUNT, Value::U16(n_parts)),
        (SPLIT_TENSORS, Value::I32(n_tensors)),
    ];
    file(&[more, &set].concat(), tensors)
}

fn read(inputs: &MemInputs, shards: &str) -> Result<Model> {
    let given = BTreeMap::from([("shards".to_owned(), shards.to_owned())]);
    let options = Options::resolve(INFO.options, &given)?;
    GgufReader.read(inputs, &options, &mut SilentHost::default())
}

fn keys(model: &Model) -> Vec<&str> {
    model.metadata.iter().map(|(key, _)| key.as_str()).collect()
}

#[test]
fn a_part_stands_for_its_set_or_for_itself() {
    let first = part(0, 2, 3, &[("a", Value::U8(1)), ("b", Value::U8(2))], &["x", "y"]);
    let second = part(1, 2, 3, &[("b", Value::U8(2)), ("c", Value::U8(3))], &["z"]);
    let names = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"];
    for root in [0, 1] {
        let bytes = [&first, &second];
        let inputs = MemInputs::new(names[root], &**bytes[root]).with(names[1 - root], &**bytes[1 - root]);
        let model = read(&inputs, "set").unwrap();
        let tensors: Vec<&str> = model.tensors.iter().map(|tensor| &*tensor.name).collect();
        assert_eq!((tensors, keys(&model)), (vec!["x", "y", "z"], vec!["a", "b"]));
        // Metadata of later parts is read by nobody.
        let lost: Vec<&str> = model.losses.iter().map(|loss| &*loss.subject).collect();
        assert_eq!(lost, ["c"]);
        assert!(model.checks.iter().all(|check| check.holds));

        let alone = read(&inputs, "alone").unwrap();
        assert_eq!(alone.tensors.len(), [2, 1][root]);
        assert!(keys(&alone).contains(&SPLIT_COUNT));
    }
}

#[test]
fn what_was_merged_stands_for_itself() {
    let merged = part(0, 0, 1, &[], &["x"]);
    let model = read(&MemInputs::new("m.gguf", merged), "set").unwrap();
    assert_eq!(keys(&model), [SPLIT_NO, SPLIT_COUNT, SPLIT_TENSORS]);
}

#[test]
fn what_the_loader_overlooks_is_checked() {
    let faults = |bytes: Vec<u8>| -> (Vec<&str>, usize) {
        let model = read(&MemInputs::new("m.gguf", bytes), "set").unwrap();
        let failed = model.checks.iter().filter(|check| !check.holds).map(|check| check.fault);
        (failed.collect(), model.losses.len())
    };
    let whole = file(&[], &["x"]);
    assert_eq!(faults(whole.clone()), (vec![], 0));
    let (failed, n_losses) = faults(whole[..whole.len() - 28].to_vec());
    assert!(failed[0].starts_with("the last tensor is not padded"));
    assert_eq!(n_losses, 0);
    assert_eq!(faults([&*whole, b"more"].concat()), (vec!["bytes follow the last tensor"], 1));
}

#[test]
fn parts_must_belong_together() {
    let first = part(0, 2, 2, &[], &["x"]);
    let fault = |second: Vec<u8>| {
        let inputs = MemInputs::new("m-00001-of-00002.gguf", &*first).with("m-00002-of-00002.gguf", second);
        read(&inputs, "set").err().unwrap().to_string()
    };
    let another = "m-00002-of-00002.gguf: the file is a part of another set, expected one of 2 parts with 2 tensors, \
                   found ";
    assert_eq!(fault(part(1, 2, 3, &[], &["y"])), format!("{another}one of 2 parts with 3 tensors"));
    assert_eq!(fault(file(&[], &["y"])), format!("{another}no part of a set"));
    assert_eq!(
        fault(part(0, 2, 2, &[], &["y"])),
        "m-00002-of-00002.gguf: the file is another part than its name says, expected split.no 1, found 0"
    );
    // By itself a file that says nothing of a set is none of its parts, whatever its name.
    let inputs = MemInputs::new("m-00002-of-00002.gguf", file(&[], &["y"]));
    assert_eq!(read(&inputs, "set").unwrap().tensors.len(), 1);
}
