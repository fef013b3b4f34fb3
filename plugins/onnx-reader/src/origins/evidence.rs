//! What the places in which a tensor is used say of it.

use super::modules::Modules;
use super::names::{is_for_matmul, owner, weight_of};
use super::scopes::{Class, Scope, attribute};
use modelferry_wire::onnx::{Operator, Program, Step, Value};
use std::collections::HashMap;

/// A name that a use says the tensor has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) name: String,
    /// Whether the tensor's two axes are the other way round there.
    pub(super) is_turned: bool,
    /// Whether the module's class is noted, and not concluded from what it does.
    pub(super) is_noted: bool,
}

/// A tensor, as evidence sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight<'a> {
    pub(super) value: Value,
    pub(super) shape: &'a [u64],
    /// The name that an exporter made for it, if one did.
    pub(super) made: Option<&'a str>,
}

/// What is known when evidence is taken.
pub(super) struct Evidence<'a> {
    pub(super) program: &'a Program<'a>,
    pub(super) modules: &'a Modules,
    /// Names that were kept and lengths of vectors that have them, by value.
    pub(super) kept: &'a HashMap<Value, &'a str>,
    pub(super) vectors: &'a HashMap<Value, u64>,
    /// Steps that only hand a tensor on and have been followed: each belongs to one.
    pub(super) followed: Vec<bool>,
}

impl Evidence<'_> {
    /// What the uses of a tensor say, each thing once, and whether any of them is a weight's.
    pub(super) fn of(&mut self, weight: Weight<'_>) -> (Vec<Claim>, bool) {
        let (mut claims, mut is_weight): (Vec<Claim>, bool) = (vec![], false);
        let mut left = vec![(weight.value, false)];
        let program = self.program;
        while let Some((value, is_turned)) = left.pop() {
            for &(idx, position) in program.uses(value) {
                let step = &program.steps[idx as usize];
                let is_weights = match (step.operator, position) {
                    (Operator::Same | Operator::Transpose, 0) => {
                        let turns = step.operator == Operator::Transpose;
                        let was_followed = std::mem::replace(&mut self.followed[idx as usize], true);
                        if let (Some(output), false) = (step.output, was_followed) {
                            left.push((output, is_turned != turns));
                        }
                        continue;
                    }
                    (Operator::MatMul | Operator::Gemm { .. } | Operator::Conv, 1) => true,
                    (Operator::Gather, 0) => true,
                    _ => false,
                };
                if !is_weights {
                    continue;
                }
                is_weight = true;
                let Some(claim) = self.claim(step, weight, is_turned) else { continue };
                let is_same =
                    |known: &Claim| (&known.name, known.is_turned) == (&claim.name, claim.is_turned);
                if !claims.iter().any(is_same) && claims.len() < MAX_CLAIMS {
                    claims.push(claim);
                }
            }
        }
        (claims, is_weight)
    }

    fn claim(&self, step: &Step<'_>, weight: Weight<'_>, is_turned: bool) -> Option<Claim> {
        let is_matrix = weight.shape.len() == 2;
        // Whether the tensor is [out, in] where it stands, if it is what a linear layer multiplies by.
        let is_out_in = match step.operator {
            Operator::MatMul if is_matrix => Some(is_turned),
            Operator::Gemm { turns } if is_matrix => Some(is_turned != turns),
            _ => None,
        };
        let scope = self.modules.scope_of(step);
        match (scope, step.operator, is_out_in) {
            (Some(Scope { module, class: Some(class) }), ..) => {
                self.noted(step, &module, class, is_turned, is_out_in)
            }
            (Some(Scope { module, class: None }), Operator::Gather, _) => {
                let is_it = self.modules.is_embedding(&module) && weight.made.is_none() && !is_turned;
                is_it.then(|| Claim { name: weight_of(&module), is_turned: false, is_noted: false })
            }
            (scope, _, Some(is_out_in)) => self.concluded(step, scope, weight, is_out_in),
            _ => None,
        }
    }

    /// From the class of the module, or the operation that it called.
    fn noted(
        &self,
        step: &Step<'_>,
        module: &str,
        class: Class,
        is_turned: bool,
        is_out_in: Option<bool>,
    ) -> Option<Claim> {
        let claim = |name: String, is_turned: bool| Some(Claim { name, is_turned, is_noted: true });
        match (class, step.operator, is_out_in) {
            (Class::Linear, _, Some(is_out_in)) => claim(weight_of(module), !is_out_in),
            (Class::Conv1D, _, Some(is_out_in)) => claim(weight_of(module), is_out_in),
            (Class::Embedding, Operator::Gather, _) | (Class::Conv, Operator::Conv, _) if !is_turned => {
                claim(weight_of(module), false)
            }
            (Class::Other, operator, _) => {
                let (target, number, is_turned) = match (operator, is_out_in) {
                    (_, Some(is_out_in)) => ("linear", 1, !is_out_in),
                    (Operator::Gather, _) if !is_turned => ("embedding", 0, false),
                    _ => return None,
                };
                let attribute = attribute(step.notes.operation, module, target, number)?;
                let dot = if module.is_empty() { "" } else { "." };
                claim(format!("{module}{dot}{attribute}"), is_turned)
            }
            _ => None,
        }
    }

    /// From what the module does, or the bias that is added. The exporter without notes folds the transpose of a linear
    /// layer's weight into a tensor of its own name; a weight that is multiplied by as it is keeps its own.
    fn concluded(
        &self,
        step: &Step<'_>,
        scope: Option<Scope>,
        weight: Weight<'_>,
        is_out_in: bool,
    ) -> Option<Claim> {
        let is_linear = match (step.operator, weight.made) {
            // Of two layers, one of which has its weight [in, out], this may be either.
            (Operator::Gemm { .. }, Some(made)) => is_out_in || is_for_matmul(made),
            (_, Some(_)) => true,
            (_, None) => is_out_in,
        };
        if !is_linear {
            return None;
        }
        let n_out = weight.shape[usize::from(!is_out_in)];
        let bias = self.bias(step, n_out);
        let module = match scope {
            Some(Scope { module, .. }) => {
                let is_sure = self.modules.is_linear(&module) || bias == Some(module.as_str());
                Some(module).filter(|_| is_sure)
            }
            // What a module adds to the result of one inside it is no bias of that.
            None => {
                bias.filter(|bias| weight.made.is_some() && self.modules.is_leaf(bias)).map(str::to_owned)
            }
        };
        module.map(|module| Claim { name: weight_of(&module), is_turned: !is_out_in, is_noted: false })
    }

    /// The module whose bias is added to what a step makes, if that is all that is done with it.
    fn bias(&self, step: &Step<'_>, n_out: u64) -> Option<&str> {
        let is_bias = |value: &Value| {
            let name = self.kept.get(value).filter(|_| self.vectors.get(value) == Some(&n_out))?;
            owner(name).filter(|owner| name[owner.len()..] == *".bias")
        };
        if let Operator::Gemm { .. } = step.operator {
            return step.inputs[2].as_ref().and_then(is_bias);
        }
        let &[(idx, _)] = self.program.uses(step.output?) else { return None };
        let add = &self.program.steps[idx as usize];
        match add.operator {
            Operator::Add => add.inputs.iter().flatten().find_map(is_bias),
            _ => None,
        }
    }
}

/// Names that one tensor may have: modules that share a weight are few.
const MAX_CLAIMS: usize = 64;
