//! Elements that lie in files of the source, and those of models that are too large for one file.

use super::*;
use modelferry_core::layout::Link;
use modelferry_wire::onnx::Payload;

const LINK: (&str, &str) = ("link", "true");

/// A tensor whose bytes are those of a file from `at` on.
fn push_region(model: &mut Model, name: &str, dtype: DType, shape: &[u64], file: u32, at: u64) -> TensorIdx {
    let n = shape.iter().product();
    let bytes = model.nodes.region(FileId(file), at, dtype.packed_len(n).unwrap()).unwrap();
    let data = model.nodes.decode(bytes, dtype, n, Packing::default()).unwrap();
    model.push(name, dtype, shape.to_vec(), data).unwrap()
}

/// Name, location, offset and length of every tensor that lies elsewhere.
fn outside(layout: &Layout) -> Vec<(String, String, u64, Option<u64>)> {
    let found = document(layout).tensors.into_iter().filter_map(|found| match found.payload {
        Payload::External(external) => {
            Some((found.name, external.location, external.offset, external.length))
        }
        _ => None,
    });
    found.collect()
}

fn place(name: &str, location: &str, offset: u64, length: u64) -> (String, String, u64, Option<u64>) {
    (name.to_owned(), location.to_owned(), offset, Some(length))
}

#[test]
fn tensors_stay_in_the_files_they_lie_in() {
    let mut model = Model::default();
    push_region(&mut model, "a", DType::F32, &[3], 0, 101);
    push_region(&mut model, "b", DType::I64, &[1], 2, 8);
    push_region(&mut model, "none", DType::F32, &[0], 1, 0);
    let tied = push_region(&mut model, "c", DType::Bf16, &[2], 0, 113);
    let other = model.tensors[tied].clone();
    model.tensors.push(modelferry_core::model::Tensor { name: "d".to_owned(), ..other });
    model.ties.push(vec![tied, tied + 1]);
    let (layout, losses) = lay_out(&model, &[LINK], Shards::One).unwrap();
    let [first, second] = ["sub/0.safetensors", "sub/2.safetensors"];
    let expected = [
        place("a", first, 101, 12),
        place("b", second, 8, 8),
        place("c", first, 113, 4),
        place("d", first, 113, 4),
    ];
    assert_eq!(outside(&layout), expected);
    assert_eq!((layout.files.len(), losses.len(), &layout.notes[..]), (1, 0, &[NO_GRAPH.to_owned()][..]));
    let link = |path: &str, file, n_tensors| Link { path: path.to_owned(), file: FileId(file), n_tensors };
    assert_eq!(layout.links, [link(first, 0, 3), link(second, 2, 1)]);

    // What has to be computed is written, and said.
    cast(&mut model, 0, DType::F16);
    let (layout, _) = lay_out(&model, &[LINK], Shards::One).unwrap();
    assert_eq!(outside(&layout), expected[1..]);
    assert_eq!(layout.notes[0], "1 tensor is written and not pointed to, having no bytes in the source: a");
    let beside = [LINK, ("external-data", "true"), ("external-threshold", "1")];
    let (layout, _) = lay_out(&model, &beside, Shards::One).unwrap();
    assert_eq!(outside(&layout)[0], place("a", "m.onnx_data", 0, 6));
    assert_eq!(outside(&layout)[1..], expected[1..]);
}

#[test]
fn what_nothing_can_point_into_is_refused() {
    let mut model = Model::default();
    push_region(&mut model, "a", DType::F32, &[3], 1, 0);
    assert_eq!(lay_out(&model, &[LINK], Shards::One).unwrap_err().kind(), ErrorKind::Usage);
    cast(&mut model, 0, DType::F16);
    assert_eq!(lay_out(&model, &[LINK], Shards::One).unwrap_err().kind(), ErrorKind::Target);
}

#[test]
fn a_graph_points_to_weights_that_are_not_its_own() {
    let mut model = read_program(&program(17, true));
    // Its own bytes are its own; those of `Constant`s stay in it.
    assert_eq!(lay_out(&model, &[LINK], Shards::One).unwrap_err().kind(), ErrorKind::Target);
    for idx in 0..2 {
        let other = push_region(&mut model, "other", DType::Bf16, &[2], 2, 6);
        let other = model.tensors.remove(other);
        (model.tensors[idx].data, model.tensors[idx].dtype) = (other.data, other.dtype);
    }
    let (layout, _) = lay_out(&model, &[LINK], Shards::One).unwrap();
    assert_eq!(outside(&layout), [place("w", "sub/2.safetensors", 6, 4)]);
    let nodes = nodes(&bytes_of(&layout, 0));
    assert_eq!(nodes[0], "w.bf16 > Cast to > w");
}

/// Nothing of it is written: lengths are all that a layout knows.
#[test]
fn a_model_that_reaches_two_gibibytes_has_its_data_beside_it() {
    const GIB: u64 = 1 << 30;
    let lay_out_two = |last: u64, given: &[(&str, &str)]| {
        let mut model = Model::default();
        push_region(&mut model, "a", DType::U8, &[GIB], 0, 0);
        push_region(&mut model, "b", DType::U8, &[last], 0, GIB);
        let (layout, _) = lay_out(&model, given, Shards::One)?;
        Ok::<_, Error>(layout.files.iter().map(|file| (file.path.clone(), file.len)).collect::<Vec<_>>())
    };
    let least = lay_out_two(1024, &[]).unwrap();
    let [(name, len)] = &least[..] else { panic!("{least:?}") };
    let around = len - GIB - 1024;
    assert!(name == "m.onnx" && around < 100, "{least:?}");
    // Lengths of lengths grow too, and the largest message is one byte short of 2 GiB.
    let largest = MAX_MESSAGE_BYTES - GIB - around;
    let fits =
        (largest - 16..=largest).rev().find(|&last| lay_out_two(last, &[]).unwrap().len() == 1).unwrap();
    assert!(lay_out_two(fits, &[]).unwrap()[0].1 <= MAX_MESSAGE_BYTES);
    let beside = lay_out_two(fits + 1, &[]).unwrap();
    assert_eq!(beside[0], ("m.onnx_data".to_owned(), GIB + fits + 1));
    assert!(beside[1].0 == "m.onnx" && beside[1].1 < 500);
    assert_eq!(lay_out_two(fits + 1, &[("external-data", "false")]).unwrap_err().kind(), ErrorKind::Target);
}
