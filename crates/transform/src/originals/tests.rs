use super::*;
use crate::tests::NoHost;
use modelferry_core::expr::Op;
use modelferry_core::graph::{Binding, Graph};
use modelferry_core::limits::Limits;

/// A model whose tensors are matrices of `[2, 3]` numbers, with what a graph's reader found of them.
fn exported(names: &[&str], origins: &[(usize, &str, &[u8])], nameless: &[usize]) -> Model {
    let mut model = Model::default();
    for name in names {
        let bytes = model.nodes.inline(vec![0u8; 24]).unwrap();
        let data = model.nodes.decode(bytes, DType::F32, 6, Default::default()).unwrap();
        model.push(*name, DType::F32, vec![2, 3], data).unwrap();
    }
    let bindings = model.tensors.iter().enumerate().map(|(idx, tensor)| Binding {
        at: idx as u64,
        tensor: idx,
        name: tensor.name.as_str().into(),
        dtype: tensor.dtype,
        data: tensor.data,
    });
    let origin = |&(tensor, name, axes): &(usize, &str, &[u8])| Origin {
        tensor,
        name: name.into(),
        axes: axes.into(),
    };
    model.graph = Some(Graph {
        dialect: "made",
        body: vec![0; names.len()].into(),
        bindings: bindings.collect(),
        parts: vec![],
        origins: origins.iter().map(origin).collect(),
        nameless: nameless.to_vec(),
    });
    model
}

/// Restores names and shows the result as `name shape` words, the nameless ones with `?`, and losses as lines.
fn restored(mut model: Model, equal: Option<bool>) -> (String, Vec<String>, Model) {
    let losses = restore(&mut model, false, &mut NoHost { limits: Limits::default(), equal }).unwrap();
    model.validate(&Limits::default()).unwrap();
    let nameless = &model.graph.as_ref().unwrap().nameless;
    let words: Vec<String> = model
        .tensors
        .iter()
        .enumerate()
        .map(|(idx, tensor)| {
            let mark = if nameless.contains(&idx) { "?" } else { "" };
            format!("{}{mark} {:?}", tensor.name, tensor.shape)
        })
        .collect();
    let losses = losses.iter().map(ToString::to_string).collect();
    (words.join("; "), losses, model)
}

const TURNED: &[u8] = &[1, 0];

#[test]
fn graphs_give_names_and_axes_back() {
    let origins: &[(usize, &str, &[u8])] = &[(0, "a.weight", TURNED), (1, "b.weight", &[])];
    let (words, losses, model) = restored(exported(&["v_0", "v_1", "v_2", "c"], origins, &[2]), None);
    assert_eq!(words, "a.weight [3, 2]; b.weight [2, 3]; v_2? [2, 3]; c [2, 3]");
    let turned =
        "layout: a.weight: an exporter turned it over, axes [1, 0] of the graph's tensor are written";
    let renamed =
        |from: &str, to: &str| format!("name: {from}: its name before it was exported, written as \"{to}\"");
    assert_eq!(losses, [renamed("v_0", "a.weight"), turned.to_owned(), renamed("v_1", "b.weight")]);
    let Op::View { dims, .. } = &model.nodes[model.tensors[0].data].op else { panic!() };
    let dims: Vec<(u64, i64)> = dims.iter().map(|dim| (dim.count, dim.stride)).collect();
    assert_eq!(dims, [(3, 1), (2, 3)]);
    // Without a graph there is nothing to be done.
    let mut host = NoHost { limits: Limits::default(), equal: None };
    assert_eq!(restore(&mut Model::default(), true, &mut host).unwrap(), []);
}

#[test]
fn one_tensor_of_two_names_is_a_tie() {
    let origins: &[(usize, &str, &[u8])] = &[(1, "head.weight", &[]), (1, "embed.weight", &[])];
    let (words, losses, model) = restored(exported(&["x", "head.weight"], origins, &[]), None);
    assert_eq!(words, "x [2, 3]; head.weight [2, 3]; embed.weight [2, 3]");
    assert_eq!((model.ties, losses.len()), (vec![vec![1, 2]], 1));
    // The name that another claims alone is that one's.
    let origins: &[(usize, &str, &[u8])] =
        &[(0, "head.weight", &[]), (0, "embed.weight", &[]), (1, "head.weight", TURNED)];
    let (words, _, model) = restored(exported(&["head.weight", "v_1"], origins, &[]), None);
    assert_eq!(words, "embed.weight [2, 3]; head.weight [3, 2]");
    assert!(model.ties.is_empty());
}

#[test]
fn two_tensors_of_one_name_are_one_or_neither_has_it() {
    let origins: &[(usize, &str, &[u8])] = &[(0, "a.weight", TURNED), (2, "a.weight", TURNED)];
    let made = || exported(&["v_0", "b", "v_2"], origins, &[]);
    let (words, losses, model) = restored(made(), Some(true));
    assert_eq!(words, "a.weight [3, 2]; b [2, 3]");
    assert_eq!(losses[2], "tie-dropped: v_2: equal to \"a.weight\", which it was before it was exported");
    assert_eq!(model.graph.unwrap().bindings.len(), 2);
    assert_eq!(restored(made(), Some(false)).0, "v_0? [2, 3]; b [2, 3]; v_2? [2, 3]");
    // Of other extents, they need not be compared.
    let origins: &[(usize, &str, &[u8])] = &[(0, "a.weight", TURNED), (1, "a.weight", &[])];
    let (words, ..) = restored(exported(&["v_0", "v_1"], origins, &[]), None);
    assert_eq!(words, "v_0? [2, 3]; v_1? [2, 3]");
    // A name that was kept is kept.
    let origins: &[(usize, &str, &[u8])] = &[(0, "b", &[])];
    assert_eq!(restored(exported(&["v_0", "b"], origins, &[]), Some(false)).0, "v_0? [2, 3]; b [2, 3]");
    assert_eq!(restored(exported(&["v_0", "b"], origins, &[]), Some(true)).0, "b [2, 3]");
}

#[test]
fn a_name_that_stays_is_given_to_nobody_else() {
    // 0 and 1 want one name and get none; 2 wants what 1 is called, 3 what 2 is.
    let origins: &[(usize, &str, &[u8])] =
        &[(0, "a", &[]), (1, "a", TURNED), (2, "v_1", &[]), (3, "v_2", &[])];
    let (words, losses, _) = restored(exported(&["v_0", "v_1", "v_2", "v_3"], origins, &[]), None);
    assert_eq!(words, "v_0? [2, 3]; v_1? [2, 3]; v_2? [2, 3]; v_3? [2, 3]");
    assert_eq!(losses, Vec::<String>::new());
    // Names that change places do.
    let origins: &[(usize, &str, &[u8])] = &[(0, "b", &[]), (1, "a", &[])];
    assert_eq!(restored(exported(&["a", "b"], origins, &[]), None).0, "b [2, 3]; a [2, 3]");
}

#[test]
fn ties_are_parted_where_only_one_is_turned() {
    let tied = |origins: &[(usize, &str, &[u8])]| {
        let mut model = exported(&["v_0", "v_1", "c"], origins, &[]);
        model.tensors[1].data = model.tensors[0].data;
        model.ties = vec![vec![0, 1]];
        restored(model, None).2.ties
    };
    assert_eq!(tied(&[(0, "a", TURNED), (1, "b", TURNED)]), [vec![0, 1]]);
    assert_eq!(tied(&[(0, "a", TURNED)]), Vec::<Vec<usize>>::new());
    assert_eq!(tied(&[(0, "a", &[]), (0, "d", &[])]), [vec![0, 1, 3]]);
}

#[test]
fn origins_that_fit_no_tensor_are_nobodys() {
    let origins: &[(usize, &str, &[u8])] = &[
        (9, "a", &[]),
        (0, "b", &[0]),
        (0, "c", &[1, 1]),
        (0, "d", &[0, 2]),
        (0, "", &[]),
        (0, "e", &[0, 1]),
    ];
    let (words, losses, _) = restored(exported(&["v_0"], origins, &[]), None);
    assert_eq!((words.as_str(), losses.len()), ("e [2, 3]", 1));
}
