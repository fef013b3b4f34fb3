//! The module that a node belongs to, as its exporter noted it.

use modelferry_wire::onnx::Step;

/// Ways to modules that are looked at: no model is deeper or has longer names.
const MAX_COMPONENTS: usize = 32;
const MAX_BYTES: usize = 512;

/// A module's class, as far as it says what its weight is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// `torch.nn.Linear`: its weight is [out, in].
    Linear,
    /// `torch.nn.Embedding`.
    Embedding,
    /// Any other. The layer of GPT-2 (`transformers.pytorch_utils.Conv1D`) has a weight that is [in, out], which is
    /// multiplied by as it is and so keeps its name.
    Other,
}

/// Where a node stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    /// The way to its module, with dots; empty for the outermost.
    pub(super) module: String,
    /// The module's class, if it is noted.
    pub(super) class: Option<Class>,
}

/// The scope of a step: from what is noted beside it, else from its name. Neither may be there.
pub(super) fn scope_of(step: &Step<'_>) -> Option<Scope> {
    let scope = noted(step).or_else(|| named(step.name))?;
    let n_components = scope.module.bytes().filter(|&byte| byte == b'.').count() + 1;
    (scope.module.len() <= MAX_BYTES && n_components <= MAX_COMPONENTS).then_some(scope)
}

/// From `['', 'model', 'model.norm', 'mul_4']`: the way to each module on the way, then the operation.
fn noted(step: &Step<'_>) -> Option<Scope> {
    let (module, _) = last_two(step.notes.scopes)?;
    let (class, _) = last_two(step.notes.classes)?;
    let class = match class {
        _ if class.starts_with("torch.nn.modules.linear.") && class.ends_with("Linear") => Class::Linear,
        "torch.nn.modules.sparse.Embedding" => Class::Embedding,
        _ => Class::Other,
    };
    Some(Scope { module: module.to_owned(), class: Some(class) })
}

/// The last two texts of a list as Python writes it. One with escapes is none: no name of a module needs them.
fn last_two(list: &str) -> Option<(&str, &str)> {
    if list.contains('\\') {
        return None;
    }
    let (rest, last) = list.strip_suffix(']').and_then(unquoted)?;
    let (_, before) = rest.strip_suffix(", ").and_then(unquoted)?;
    Some((before, last))
}

/// What stands before the quoted text at the end, and that text.
fn unquoted(text: &str) -> Option<(&str, &str)> {
    text.strip_suffix('\'')?.rsplit_once('\'')
}

/// From `/model/layers.0/mlp/up_proj/MatMul`: the way to the module, then the operator. A module that is one of a list
/// is called `layers.0`, after the list; where the list is a module that was called itself (`/seq/seq.0/MatMul`), it
/// stands there twice.
fn named(name: &str) -> Option<Scope> {
    let rest = name.strip_prefix('/')?;
    let Some((way, _)) = rest.rsplit_once('/') else {
        return Some(Scope { module: String::new(), class: None });
    };
    if way.len() > MAX_BYTES {
        return None;
    }
    let mut module = String::with_capacity(way.len());
    let mut before = "";
    for component in way.split('/') {
        let place = component.strip_prefix(before).filter(|_| !before.is_empty());
        let place = place.and_then(|rest| rest.strip_prefix('.')).filter(|rest| is_place(rest));
        match (component, place) {
            ("", _) => return None,
            (_, Some(place)) => module.extend([".", place]),
            (_, None) if module.is_empty() => module.push_str(component),
            (_, None) => module.extend([".", component]),
        }
        before = component;
    }
    Some(Scope { module, class: None })
}

/// Whether this is where something stands in lists: `3`, or `3.1` of one in another.
fn is_place(text: &str) -> bool {
    text.split('.').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

/// An operation's argument of this number: of `call_function[target=torch.ops.aten.linear.default](args = (%x, %y), …)`
/// `y` is number 1 of `linear`.
fn argument<'a>(operation: &'a str, target: &str, number: usize) -> Option<&'a str> {
    let (_, call) = operation.split_once("[target=torch.ops.aten.")?;
    let rest = call.strip_prefix(target)?.strip_prefix('.')?;
    let (_, arguments) = rest.split_once("(args = (")?;
    let argument = arguments.split(", ").nth(number)?.strip_prefix('%')?;
    Some(argument.trim_end_matches([')', ',']))
}

/// Whether an operation multiplies by a parameter, or one that is no more than turned over, and by nothing that was
/// computed of it.
pub(super) fn multiplies_by_parameter(operation: &str) -> bool {
    let is_turn = |argument: &str| {
        let stem = argument.rsplit_once('_').map_or(argument, |(stem, _)| stem);
        matches!(stem, "t" | "permute" | "transpose")
    };
    argument(operation, "linear", 1).is_some_and(|argument| argument.starts_with("p_"))
        || [("mm", 1), ("matmul", 1), ("addmm", 2)]
            .into_iter()
            .any(|(target, number)| argument(operation, target, number).is_some_and(is_turn))
}

/// The attribute of the module itself that an operation takes as its argument of this number.
///
/// Parameters stand there under their names with `_` for dots, in small letters, behind `p_`: what follows the module's
/// own is the attribute, if that has none.
pub(super) fn attribute<'a>(
    operation: &'a str,
    module: &str,
    target: &str,
    number: usize,
) -> Option<&'a str> {
    let parameter = argument(operation, target, number)?.strip_prefix("p_")?;
    let attribute = match module {
        "" => parameter,
        _ => parameter.get(module.len()..)?.strip_prefix('_')?,
    };
    let is_same =
        |(a, b): (u8, u8)| a.eq_ignore_ascii_case(&if b.is_ascii_alphanumeric() { b } else { b'_' });
    let is_own = parameter.bytes().zip(module.bytes()).all(is_same);
    (is_own && !attribute.is_empty() && !attribute.contains('_')).then_some(attribute)
}

/// Whether an operation is noted and does not take a parameter of this name, which has no dot in it: names of what the
/// exporter computed look so, and those of the outermost module's parameters.
pub(super) fn takes_another(operation: &str, name: &str) -> bool {
    let is_parameter = |rest: &str| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        rest[..end].eq_ignore_ascii_case(name)
    };
    !operation.is_empty() && !name.contains('.') && !operation.split("%p_").skip(1).any(is_parameter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelferry_wire::onnx::{Notes, Operator};

    fn step<'a>(name: &'a str, scopes: &'a str, classes: &'a str) -> Step<'a> {
        let notes = Notes { scopes, classes, operation: "" };
        Step { operator: Operator::MatMul, name, inputs: [None; 3], output: None, notes }
    }

    #[test]
    fn scopes_are_read() {
        let module = |name: &str| scope_of(&step(name, "", "")).map(|scope| scope.module);
        assert_eq!(module("/model/layers.0/q_proj/MatMul").as_deref(), Some("model.layers.0.q_proj"));
        assert_eq!(module("/MatMul").as_deref(), Some(""));
        assert_eq!(module("/layer1/layer1.0/layer1.0.2/conv/Conv").as_deref(), Some("layer1.0.2.conv"));
        assert_eq!(module("/a/a/a.b/M").as_deref(), Some("a.a.a.b"));
        for name in ["", "MatMul_3", "a/b/MatMul", "//MatMul", "/a//MatMul"] {
            assert_eq!(module(name), None, "{name}");
        }
        assert_eq!(module(&format!("{}/MatMul", "/a".repeat(33))), None);
        assert_eq!(module(&format!("/{}/MatMul", "a".repeat(513))), None);

        let linear = "['m.M', 'torch.nn.modules.linear.Linear', 'aten.linear.default']";
        let noted = scope_of(&step("/x/y", "['', 'a', 'a.b', 'linear']", linear)).unwrap();
        assert_eq!((noted.module.as_str(), noted.class), ("a.b", Some(Class::Linear)));
        for scopes in ["", "[]", "['x']", "['a', 'b'", "['a\\'', 'b']", "[a, b]"] {
            assert_eq!(scope_of(&step("", scopes, linear)), None, "{scopes}");
        }
    }

    #[test]
    fn attributes_are_read() {
        let operation = |parameter: &str| {
            format!(
                "%l : [num_users=1] = call_function[target=torch.ops.aten.linear.default](args = (%x, %{parameter}), kwargs = {{}})"
            )
        };
        let of = |parameter: &str, module: &str| {
            attribute(&operation(parameter), module, "linear", 1).map(str::to_owned)
        };
        assert_eq!(of("p_a_b_weight", "a.b").as_deref(), Some("weight"));
        assert_eq!(of("p_h_0_selfattention_w", "h.0.SelfAttention").as_deref(), Some("w"));
        assert_eq!(of("p_w", "").as_deref(), Some("w"));
        // Where the attribute ends, and whose it is, must be plain.
        for (parameter, module) in
            [("p_a_b_weight", "a"), ("p_c_weight", "a"), ("t", "a"), ("p_a", "a"), ("p_a_", "a")]
        {
            assert_eq!(of(parameter, module), None, "{parameter}");
        }
        assert_eq!(attribute("", "a", "linear", 1), None);
        assert_eq!(attribute(&operation("p_a_weight"), "a", "embedding", 1), None);
    }

    #[test]
    fn what_is_computed_is_no_parameter() {
        let call = |target: &str, arguments: &str| {
            multiplies_by_parameter(&format!(
                "%y : call_function[target=torch.ops.aten.{target}.default](args = ({arguments}), kwargs = {{}})"
            ))
        };
        assert!(call("linear", "%x, %p_a_weight") && call("linear", "%x, %p_a_weight, %p_a_bias"));
        assert!(
            call("mm", "%x, %t_3")
                && call("addmm", "%p_b, %x, %permute")
                && call("matmul", "%x, %transpose_1")
        );
        assert!(
            !call("linear", "%x, %mul_3") && !call("mm", "%x, %mul") && !call("addmm", "%t, %x, %p_a_weight")
        );
        let takes =
            |name: &str| takes_another("%y : call_function[target=a](args = (%x, %p_par, %p_w_1))", name);
        assert!(takes("mul_2") && takes("pa") && !takes("par") && !takes("W_1") && !takes("a.mul_2"));
        assert!(!takes_another("", "mul_2"));
        assert!(!call("linear", "%x") && !call("bmm", "%x, %t") && !multiplies_by_parameter(""));
    }
}
