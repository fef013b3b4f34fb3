use super::*;
use modelferry_core::tree::{Global, Making};

/// A tree that grows.
#[derive(Default)]
struct Growing(Tree);

impl Growing {
    fn put(&mut self, object: Object) -> ObjectId {
        self.0.push(object).unwrap()
    }

    fn text(&mut self, text: &str) -> ObjectId {
        self.put(Object::Text(text.into()))
    }

    fn global(&mut self, module: &str, name: &str) -> ObjectId {
        self.put(Object::Global(Box::new(Global { module: module.into(), name: name.into() })))
    }

    fn call(&mut self, callable: ObjectId, args: &[ObjectId]) -> Instance {
        let args = self.put(Object::Tuple(args.into()));
        Instance::new(callable, args)
    }

    fn render(mut self, root: ObjectId) -> Result<String> {
        self.0.set_root(root);
        render(&self.0, &Limits::default())
    }
}

#[test]
fn arguments_of_a_training() {
    let mut tree = Growing::default();
    let class = tree.global("transformers.training_args", "TrainingArguments");
    let strategy = tree.global("transformers.trainer_utils", "IntervalStrategy");
    let steps = tree.text("steps");
    let member = tree.call(strategy, &[steps]);
    let member = tree.put(Object::Instance(Box::new(member)));
    let (empty, one) = (tree.put(Object::List(vec![])), tree.put(Object::Int(1)));
    let nan = tree.put(Object::Float(f64::NAN));
    let pair = tree.put(Object::Tuple([one, nan].into()));
    let nothing = tree.put(Object::None);
    let names = ["eval_strategy", "é", "pair", "class", "twice", "twice"];
    let keys: Vec<ObjectId> = names.iter().map(|name| tree.text(name)).collect();
    let values = [member, empty, pair, strategy, nothing, one];
    let state = tree.put(Object::Dict(keys.into_iter().zip(values).collect()));
    let mut object = tree.call(class, &[]);
    object.making = Making::New;
    object.states.push(state);
    let root = tree.put(Object::Instance(Box::new(object)));
    let expected = r#"{
  "eval_strategy": "steps",
  "\u00e9": [],
  "pair": [
    1,
    NaN
  ],
  "class": "transformers.trainer_utils.IntervalStrategy",
  "twice": 1
}
"#;
    assert_eq!(tree.render(root).unwrap(), expected);
}

#[test]
fn what_has_no_state_says_what_it_is() {
    let mut tree = Growing::default();
    let delta = tree.global("datetime", "timedelta");
    let (days, seconds) = (tree.put(Object::Int(0)), tree.put(Object::Int(1800)));
    let call = tree.call(delta, &[days, seconds]);
    let root = tree.put(Object::Instance(Box::new(call)));
    let text = tree.render(root).unwrap();
    assert_eq!(text, "{\n  \"class\": \"datetime.timedelta\",\n  \"args\": [\n    0,\n    1800\n  ]\n}\n");
}

#[test]
fn cycles_and_bombs_end() {
    let mut tree = Growing::default();
    let list = tree.put(Object::List(vec![]));
    *tree.0.get_mut(list) = Object::List(vec![list]);
    assert_eq!(tree.render(list).unwrap(), "[\n  \"\\u2026\"\n]\n");

    let mut tree = Growing::default();
    let mut at = tree.put(Object::List(vec![]));
    for _ in 0..60 {
        at = tree.put(Object::List(vec![at, at]));
    }
    assert_eq!(tree.render(at).unwrap_err().kind(), modelferry_core::error::ErrorKind::Limit);

    let mut tree = Growing::default();
    let mut at = tree.put(Object::None);
    for _ in 0..100_000 {
        at = tree.put(Object::List(vec![at]));
    }
    assert_eq!(tree.render(at).unwrap_err().kind(), modelferry_core::error::ErrorKind::Limit);
}

#[test]
fn numbers_are_pythons() {
    // Each from json.dumps of CPython 3.11.
    let floats = [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (5e-5, "5e-05"),
        (1e-4, "0.0001"),
        (1e15, "1000000000000000.0"),
        (1e16, "1e+16"),
        (1.5e300, "1.5e+300"),
        (5e-324, "5e-324"),
        (0.1, "0.1"),
        (123456.789, "123456.789"),
        (f64::INFINITY, "Infinity"),
        (f64::NEG_INFINITY, "-Infinity"),
    ];
    for (value, expected) in floats {
        assert_eq!(float_text(value), expected);
    }
    assert_eq!(decimal(&(1i128 << 100).to_le_bytes()), "1267650600228229401496703205376");
    assert_eq!(decimal(&(-(1i128 << 100)).to_le_bytes()), "-1267650600228229401496703205376");
    assert_eq!((decimal(&[]), decimal(&[0xff])), ("0".to_owned(), "-1".to_owned()));
}

#[test]
fn lone_surrogates_are_escaped() {
    let mut tree = Growing::default();
    let root = tree.put(Object::LooseText(b"a\xed\xa0\x80\xc3\xa9\xed\xbf\xbf".as_slice().into()));
    assert_eq!(tree.render(root).unwrap(), "\"a\\ud800\\u00e9\\udfff\"\n");
}
