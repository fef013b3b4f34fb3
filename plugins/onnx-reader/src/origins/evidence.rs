//! What the places in which a tensor is used say of it.

use super::modules::Modules;
use super::names::{is_for_matmul, owner, parameter_of, weight_of};
use super::scopes::{Class, Scope, attribute, multiplies_by_parameter, takes_another};
use modelferry_wire::onnx::{Operator, Program, Step, Value};
use std::collections::HashMap;

/// A name that a use says the tensor has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) name: String,
    /// Whether the tensor's two axes are the other way round there.
    pub(super) is_turned: bool,
}

/// What the uses of a tensor say.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Each thing once.
    pub(super) claims: Vec<Claim>,
    /// Whether any of them is a weight's.
    pub(super) is_weight: bool,
    /// Whether notes show that its name is an exporter's, though it does not look so.
    pub(super) is_made: bool,
}

/// A tensor, as evidence sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight<'a> {
    pub(super) value: Value,
    pub(super) shape: &'a [u64],
    pub(super) name: &'a str,
    /// Whether an exporter made the name.
    pub(super) is_made: bool,
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
    pub(super) fn of(&mut self, weight: Weight<'_>) -> Said {
        let mut said = Said::default();
        let mut left = vec![(weight.value, false)];
        let program = self.program;
        while let Some((value, is_turned)) = left.pop() {
            for &(idx, position) in program.uses(value) {
                let step = &program.steps[idx as usize];
                match (step.operator, position) {
                    (Operator::Same | Operator::Transpose, 0) => {
                        let turns = step.operator == Operator::Transpose;
                        let was_followed = std::mem::replace(&mut self.followed[idx as usize], true);
                        if let (Some(output), false) = (step.output, was_followed) {
                            left.push((output, is_turned != turns));
                        }
                        continue;
                    }
                    (Operator::MatMul | Operator::Gemm { .. }, 1) | (Operator::Gather, 0) => {}
                    (Operator::Layer, 1 | 2) => {}
                    _ => continue,
                }
                said.is_weight = true;
                said.is_made |= takes_another(step.notes.operation, weight.name);
                let Some(claim) = self.claim(step, weight, is_turned) else { continue };
                if !said.claims.contains(&claim) && said.claims.len() < MAX_CLAIMS {
                    said.claims.push(claim);
                }
            }
        }
        said
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
        match (scope, is_out_in) {
            (Some(Scope { module, class: Some(class) }), Some(is_out_in)) => {
                self.multiplied(step, &module, class, weight, is_out_in)
            }
            (Some(Scope { module, class: Some(class) }), None) => {
                looked_up(step, &module, class).filter(|_| !weight.is_made && !is_turned)
            }
            (scope, Some(is_out_in)) if weight.is_made => self.concluded(step, scope, weight, is_out_in),
            _ => None,
        }
    }

    /// From the class of the module that multiplies by it, or from the operation that it called.
    ///
    /// What the exporter has named anew it has computed: most often no more than turned over.
    fn multiplied(
        &self,
        step: &Step<'_>,
        module: &str,
        class: Class,
        weight: Weight<'_>,
        is_out_in: bool,
    ) -> Option<Claim> {
        let operation = step.notes.operation;
        let name = match class {
            Class::Linear if !weight.is_made || multiplies_by_parameter(operation) => weight_of(module),
            Class::Linear | Class::Embedding => return None,
            Class::Other => parameter_of(module, attribute(operation, module, "linear", 1)?),
        };
        Some(Claim { name, is_turned: !is_out_in })
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
        // Two layers become this, one of which has its weight [in, out].
        let is_either = matches!(step.operator, Operator::Gemm { .. }) && !is_out_in;
        if is_either && !is_for_matmul(weight.name) {
            return None;
        }
        let n_out = weight.shape[usize::from(!is_out_in)];
        let bias = self.bias(step, n_out);
        let module = match scope {
            Some(Scope { module, .. }) => match self.modules.first_call(&module) {
                // Another module may be called so, unless the bias is that of the first.
                Some(first) => Some(first).filter(|first| bias == Some(first)),
                None => {
                    let is_it = self.modules.is_linear(&module) || bias == Some(&module);
                    Some(module).filter(|_| is_it)
                }
            },
            // What a module adds to the result of one inside it is no bias of that.
            None => bias.filter(|bias| self.modules.is_leaf(bias)).map(str::to_owned),
        };
        module.map(|module| Claim { name: weight_of(&module), is_turned: !is_out_in })
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

/// From the class of the module that looks something up in it, or from the operation that it called.
fn looked_up(step: &Step<'_>, module: &str, class: Class) -> Option<Claim> {
    let name = match (class, step.operator) {
        (Class::Embedding, Operator::Gather) => weight_of(module),
        (Class::Other, Operator::Gather) => {
            parameter_of(module, attribute(step.notes.operation, module, "embedding", 0)?)
        }
        _ => return None,
    };
    Some(Claim { name, is_turned: false })
}

/// Names that one tensor may have: modules that share a weight are few.
const MAX_CLAIMS: usize = 64;
