use super::*;
use modelferry_core::inputs::FileId;
use modelferry_core::tree::{Object, ObjectId, Tree};

/// A document in the making: each method adds an object.
#[derive(Default)]
struct Made {
    model: Model,
    tree: Tree,
}

impl Made {
    fn object(&mut self, object: Object) -> ObjectId {
        self.tree.push(object).unwrap()
    }

    fn dict(&mut self, entries: &[(&str, ObjectId)]) -> ObjectId {
        let entries =
            entries.iter().map(|&(key, value)| (self.object(Object::Text(key.into())), value)).collect();
        self.object(Object::Dict(entries))
    }

    /// A tensor of these extents, named later.
    fn tensor(&mut self, shape: &[u64]) -> ObjectId {
        let n: u64 = shape.iter().product();
        let data = self.model.nodes.region(FileId(0), 0, n).unwrap();
        let idx = self.model.push(String::new(), DType::U8, shape.to_vec(), data).unwrap();
        self.object(Object::Tensor(idx))
    }

    /// `{"0": {"step": tensor}}` and `param_groups`, as torch has it.
    fn optimizer(&mut self) -> ObjectId {
        let (step, average) = (self.tensor(&[]), self.tensor(&[2]));
        let of_one = self.dict(&[("step", step), ("exp_avg", average)]);
        let state = self.dict(&[("0", of_one)]);
        let groups = self.object(Object::List(vec![]));
        self.dict(&[("state", state), ("param_groups", groups)])
    }

    fn finish(mut self, root: ObjectId) -> Model {
        let mut waiting = vec![(String::new(), root)];
        while let Some((path, id)) = waiting.pop() {
            match self.tree.tensor(id) {
                Some(idx) => self.model.tensors[idx].name = path,
                None => waiting.extend(
                    self.tree.members(id).into_iter().map(|(key, member)| (join(&path, &key), member)),
                ),
            }
        }
        self.tree.set_root(root);
        self.model.tree = Some(self.tree);
        self.model
    }
}

/// Names that are left, kinds and subjects of losses, or the error.
fn select_with(mut model: Model, edits: &Edits) -> Result<(Vec<String>, Vec<String>), String> {
    let mut losses = vec![];
    select(&mut model, edits, &mut losses).map_err(|error| error.to_string())?;
    model.validate(&Default::default()).unwrap();
    let names = model.tensors.iter().map(|tensor| tensor.name.clone()).collect();
    let losses = losses.iter().map(|loss| format!("{} {}", loss.kind.name(), loss.subject)).collect();
    Ok((names, losses))
}

fn by_default(model: Model) -> Result<(Vec<String>, Vec<String>), String> {
    select_with(model, &Edits::default())
}

fn training_checkpoint() -> Model {
    let mut made = Made::default();
    let (weight, bias) = (made.tensor(&[2, 2]), made.tensor(&[2]));
    let weights = made.dict(&[("fc.weight", weight), ("fc.bias", bias)]);
    let optimizer = made.optimizer();
    let epoch = made.object(Object::Int(3));
    let scheduler = made.dict(&[("last_epoch", epoch)]);
    let loss = made.tensor(&[]);
    let entries = [
        ("epoch", epoch),
        ("model", weights),
        ("optim_g", optimizer),
        ("lr_scheduler", scheduler),
        ("loss", loss),
    ];
    let root = made.dict(&entries);
    made.finish(root)
}

#[test]
fn the_one_set_is_taken_and_all_else_is_named() {
    let (names, losses) = by_default(training_checkpoint()).unwrap();
    assert_eq!(names, ["fc.weight", "fc.bias"]);
    let expected = [
        "tree epoch",
        "state optim_g",
        "state lr_scheduler",
        "tree loss",
        "name model.fc.weight",
        "name model.fc.bias",
    ];
    assert_eq!(losses, expected);
}

#[test]
fn state_is_kept_on_request() {
    let edits = Edits { keep_optimizer: true, ..Edits::default() };
    let (names, losses) = select_with(training_checkpoint(), &edits).unwrap();
    let expected =
        ["model.fc.weight", "model.fc.bias", "optim_g.state.0.step", "optim_g.state.0.exp_avg", "loss"];
    assert_eq!(names, expected);
    assert_eq!(losses, [""; 0]);
}

#[test]
fn a_path_chooses() {
    let select = |path: &str| Edits { select: Some(path.to_owned()), ..Edits::default() };
    assert_eq!(select_with(training_checkpoint(), &select("model")).unwrap().0, ["fc.weight", "fc.bias"]);
    let all = select_with(training_checkpoint(), &select(".")).unwrap();
    assert_eq!(all.0, ["model.fc.weight", "model.fc.bias", "loss"]);
    assert_eq!(
        select_with(training_checkpoint(), &select("modle")).unwrap_err(),
        "--select: no part with tensors has this path, expected model, optim_g, found modle"
    );
}

#[test]
fn several_sets_are_for_the_user_to_choose() {
    let mut made = Made::default();
    let (a, b) = (made.tensor(&[2]), made.tensor(&[3]));
    let (a, b) = (made.dict(&[("w", a)]), made.dict(&[("w", b)]));
    let root = made.dict(&[("generator", a), ("discriminator", b)]);
    assert_eq!(
        by_default(made.finish(root)).unwrap_err(),
        "the checkpoint holds several sets of weights, found generator (1 tensors, 2 parameters), discriminator (1 \
         tensors, 3 parameters) (choose one with --select, or all with --select .)"
    );
}

#[test]
fn tensors_beside_a_set_that_says_it_is_the_model_are_a_choice_too() {
    let make = |key: &str| {
        let mut made = Made::default();
        let (a, b) = (made.tensor(&[2]), made.tensor(&[3]));
        let set = made.dict(&[("w", a)]);
        let root = made.dict(&[(key, set), ("mean", b)]);
        made.finish(root)
    };
    assert!(by_default(make("ema")).is_err());
    assert_eq!(by_default(make("layer")).unwrap().0, ["layer.w", "mean"]);
}

/// Dictionaries with a tensor in each, at these paths.
fn nested(made: &mut Made, paths: &[&str]) -> ObjectId {
    let mut tops: Vec<&str> = vec![];
    let mut entries = vec![];
    for path in paths {
        let (top, rest) = path.split_once('/').unwrap_or((path, ""));
        if !tops.contains(&top) {
            tops.push(top);
        }
        entries.push((top, rest));
    }
    let mut members = vec![];
    for top in tops {
        let below: Vec<&str> = entries.iter().filter(|(own, _)| *own == top).map(|(_, rest)| *rest).collect();
        members.push((top, if below == [""] { made.tensor(&[2]) } else { nested(made, &below) }));
    }
    made.dict(&members)
}

#[test]
fn modules_in_dictionaries_of_their_own_are_one_set() {
    let select = |paths: &[&str]| {
        let mut made = Made::default();
        let root = nested(&mut made, paths);
        by_default(made.finish(root)).map(|(names, _)| names)
    };
    assert_eq!(
        select(&["params/a/kernel", "params/b/c/kernel", "opt_state/0/mu/a/kernel"]).unwrap(),
        ["a.kernel", "b.c.kernel"]
    );
    assert_eq!(select(&["encoder/a/w", "head/w"]).unwrap(), ["encoder.a.w", "head.w"]);
    // A module alone is no less one; what calls itself a model holds no modules of that name.
    assert_eq!(
        select(&["params/dense/kernel", "params/dense/bias"]).unwrap(),
        ["dense.kernel", "dense.bias"]
    );
    assert_eq!(select(&["state/params/a/b/kernel", "opt_state/0/mu/a/b/kernel"]).unwrap(), ["a.b.kernel"]);
    assert_eq!(select(&["model/state_dict/weight"]).unwrap(), ["weight"]);
    assert_eq!(select(&["anything/weight"]).unwrap(), ["weight"]);
    // Statistics of batches, and a head, lie beside.
    assert_eq!(select(&["params/a/w", "batch_stats/a/mean"]).unwrap(), ["params.a.w", "batch_stats.a.mean"]);
    assert_eq!(select(&["model/a/w", "lm_head/w"]).unwrap(), ["model.a.w", "lm_head.w"]);
    for several in [&["params/a/w", "params_ema/a/w"][..], &["a.b/w", "c/w"], &["a/b.c", "c/w"]] {
        assert!(select(several).unwrap_err().contains("several sets"), "{several:?}");
    }
}

#[test]
fn state_inside_of_a_set_goes_with_all_of_it() {
    let mut made = Made::default();
    let weight = made.tensor(&[2]);
    let optimizer = made.optimizer();
    let root = made.dict(&[("w", weight), ("anything", optimizer)]);
    let mut model = made.finish(root);
    let mut losses = vec![];
    select(&mut model, &Edits::default(), &mut losses).unwrap();
    let tree = model.tree.unwrap();
    assert_eq!(tree.members(tree.root().unwrap()).len(), 1);
    assert_eq!(
        losses[0].to_string(),
        "state: anything: state of the training, left out: 2 tensors of 3 bytes"
    );
}

#[test]
fn five_deep_is_found() {
    let mut made = Made::default();
    let weight = made.tensor(&[2]);
    let mut at = made.dict(&[("w", weight)]);
    for key in ["a", "b", "c", "d"] {
        at = made.dict(&[(key, at)]);
    }
    assert_eq!(by_default(made.finish(at)).unwrap().0, ["w"]);
}

#[test]
fn flat_state_is_known_by_its_name() {
    let mut model = Model::default();
    let data = model.nodes.inline(vec![0]).unwrap();
    for name in ["w", "_optimizer.w.exp_avg"] {
        model.push(name, DType::U8, vec![1], data).unwrap();
    }
    let (names, losses) = by_default(model).unwrap();
    assert_eq!((names, losses), (vec!["w".to_owned()], vec!["state _optimizer.w.exp_avg".to_owned()]));
}

#[test]
fn the_state_of_an_optimizer_alone_is_no_model() {
    let made = || {
        let mut made = Made::default();
        let root = made.optimizer();
        made.finish(root)
    };
    let error = select_with(made(), &Edits::default()).unwrap_err();
    assert!(error.contains("state of an optimizer") && error.contains("--keep-optimizer"), "{error}");
    let edits = Edits { keep_optimizer: true, ..Edits::default() };
    assert_eq!(select_with(made(), &edits).unwrap().0, ["state.0.step", "state.0.exp_avg"]);
}
