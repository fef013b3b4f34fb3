//! What the document shows of the model's modules.

use super::names::{owner, unnumbered};
use super::scopes::{Scope, scope_of};
use modelferry_wire::onnx::{Operator, Program};
use std::collections::{HashMap, HashSet};

/// Text of names of modules that is kept, in bytes; a model has less than a hundredth of this.
const MAX_BYTES: usize = 64 << 20;

/// Operators that were met in a module.
const MULTIPLIES: u8 = 1;
const OTHERS: u8 = 2;

/// Modules by the ways to them.
#[derive(Debug, Default)]
pub(super) struct Modules {
    /// What the ways that nodes bear lack at the front; nothing where the document contradicts itself.
    prefix: Option<String>,
    operators: HashMap<String, u8>,
    /// Those that have others in them.
    inner: HashSet<String>,
    /// Those that have parameters, or others in them that do.
    owners: HashSet<String>,
    n_bytes: usize,
    /// Whether all of them are here: there may be too many.
    is_whole: bool,
}

impl Modules {
    /// Looks through the steps, and through the names that were kept: by the value of each.
    pub(super) fn of(program: &Program<'_>, kept: &HashMap<u32, &str>) -> Modules {
        let mut modules = Modules { prefix: prefix(program, kept), ..Modules::default() };
        for name in kept.values() {
            if let Some(owner) = owner(name) {
                modules.add_around(owner);
                modules.n_bytes += owner.len();
                modules.owners.insert(owner.to_owned());
            }
        }
        if modules.n_bytes > MAX_BYTES {
            return Modules::default();
        }
        modules.owners.extend(modules.inner.iter().cloned());
        for step in &program.steps {
            let Some(Scope { module, .. }) = modules.scope_of(step) else { continue };
            let met = match step.operator {
                Operator::MatMul | Operator::Gemm { .. } | Operator::Add => MULTIPLIES,
                Operator::Transpose | Operator::Same => 0,
                Operator::Gather | Operator::Layer | Operator::Other => OTHERS,
            };
            if let Some(operators) = modules.operators.get_mut(&module) {
                *operators |= met;
                continue;
            }
            modules.add_around(&module);
            modules.n_bytes += module.len();
            modules.operators.insert(module, met);
            if modules.n_bytes > MAX_BYTES {
                return Modules::default();
            }
        }
        modules.is_whole = true;
        modules
    }

    /// The modules around one have others in them. Around one that is known all are.
    fn add_around(&mut self, module: &str) {
        let outermost = (!module.is_empty()).then_some((0, ""));
        for (at, _) in module.rmatch_indices('.').chain(outermost) {
            if self.n_bytes > MAX_BYTES || self.inner.contains(&module[..at]) {
                break;
            }
            self.n_bytes += at;
            self.inner.insert(module[..at].to_owned());
        }
    }

    /// The module of a step, by the way to it from the outermost.
    pub(super) fn scope_of(&self, step: &modelferry_wire::onnx::Step<'_>) -> Option<Scope> {
        let prefix = self.prefix.as_ref()?;
        let scope = scope_of(step)?;
        Some(if prefix.is_empty() { scope } else { scope.within(prefix) })
    }

    /// Whether a module has no other in it, as far as the document shows.
    pub(super) fn is_leaf(&self, module: &str) -> bool {
        self.is_whole && !self.inner.contains(module)
    }

    /// Whether all that a module does is what a linear layer does.
    pub(super) fn is_linear(&self, module: &str) -> bool {
        self.is_leaf(module) && self.operators.get(module) == Some(&MULTIPLIES)
    }

    /// The way to the module whose name another bears with a number behind it, as the exporter writes where it is called
    /// once more: nothing where that is another module, as a parameter shows, or no such module is there.
    pub(super) fn first_call(&self, module: &str) -> Option<String> {
        let mut first = String::with_capacity(module.len());
        let mut is_again = false;
        let (mut end, mut dot) = (0, "");
        for part in module.split('.') {
            end += part.len() + dot.len();
            first.push_str(dot);
            let begin = first.len();
            first.push_str(part);
            if let Some(stem) = unnumbered(part)
                && !self.owners.contains(&module[..end])
            {
                first.truncate(begin + stem.len());
                match self.inner.contains(&first) || self.operators.contains_key(&first) {
                    true => is_again = true,
                    false => first.push_str(&part[stem.len()..]),
                }
            }
            dot = ".";
        }
        is_again.then_some(first)
    }
}

impl Scope {
    fn within(self, prefix: &str) -> Scope {
        let module = match self.module.as_str() {
            "" => prefix.to_owned(),
            module => format!("{prefix}.{module}"),
        };
        Scope { module, ..self }
    }
}

/// What the ways lack at the front: the way to a module is the end of its parameters' names. Empty where nothing shows
/// it, and nothing where two nodes show different things.
fn prefix(program: &Program<'_>, kept: &HashMap<u32, &str>) -> Option<String> {
    let mut found: Option<&str> = None;
    for step in &program.steps {
        let owners = step.inputs.iter().flatten().filter_map(|value| owner(kept.get(value)?));
        let mut scope = None;
        for owner in owners {
            let Some(Scope { module, .. }) = scope.get_or_insert_with(|| scope_of(step)) else { break };
            let rest = owner.strip_suffix(module.as_str()).filter(|_| !module.is_empty());
            let prefix = match rest {
                Some("") => "",
                Some(rest) if rest.ends_with('.') => &rest[..rest.len() - 1],
                _ => continue,
            };
            if *found.get_or_insert(prefix) != prefix {
                return None;
            }
        }
    }
    Some(found.unwrap_or_default().to_owned())
}
