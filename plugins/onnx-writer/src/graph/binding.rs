//! What the graph has to change for one tensor.

use super::plan::{Bound, Cast, Role, Scope};
use super::planning::Planning;
use super::{Part, misplaced, refused};
use modelferry_core::graph::Binding;
use modelferry_core::model::TensorIdx;
use modelferry_core::{DType, Error, Result};
use modelferry_wire::onnx::messages::TensorShell;
use modelferry_wire::onnx::{NAME_KEY, element};
use prost::Message as _;
use std::collections::HashSet;

impl Planning<'_> {
    /// The name in a tensor's place, and whether another is noted beside it.
    pub(super) fn shell(&self, part: Part<'_>, binding: &Binding) -> Result<(String, bool)> {
        let shell = TensorShell::decode(part.bytes).map_err(|error| misplaced().source(error))?;
        let shape = self.view.tensor(binding.tensor).shape();
        let is_same =
            shell.dims.iter().map(|dim| u64::try_from(*dim).ok()).eq(shape.iter().map(|dim| Some(*dim)));
        if !is_same {
            return Err(self.reshaped(binding));
        }
        let is_noted = shell.metadata_props.iter().any(|entry| entry.key.as_deref() == Some(NAME_KEY));
        Ok((shell.name.unwrap_or_default(), is_noted))
    }

    /// A tensor that the graph calls `local`.
    pub(super) fn bind(
        &mut self,
        binding: &Binding,
        role: Role,
        local: &str,
        is_noted: bool,
        scope: &mut Scope,
    ) -> Result<Bound> {
        let tensor = self.view.tensor(binding.tensor);
        let is_renamed = tensor.name() != &*binding.name;
        // What is noted beside it is the tensor's name alone; the graph's own is another's business.
        let value = match is_renamed && !is_noted {
            true => tensor.name().to_owned(),
            false => local.to_owned(),
        };
        if is_renamed && !is_noted {
            if value.is_empty() {
                return Err(refused(self.view, binding.tensor, "a tensor needs a name").found("an empty one"));
            }
            self.rename(local, &value, binding.tensor, scope);
        }
        if tensor.dtype() == binding.dtype {
            let graph_name = (is_renamed && !is_noted).then_some(value);
            return Ok(Bound { role, graph_name, is_noted, cast: None });
        }
        let (own, wanted) = self.check_cast(binding, scope.opset)?;
        let from = self.free_name(&format!("{value}.{}", tensor.dtype()));
        let cast = Cast { from: from.clone(), to: value, data_type: wanted, own_type: own };
        Ok(Bound { role, graph_name: Some(from), is_noted: true, cast: Some(cast) })
    }

    /// A tensor that nothing in the graph can follow.
    pub(super) fn unchanged(&self, binding: &Binding, role: Role) -> Result<Bound> {
        let tensor = self.view.tensor(binding.tensor);
        if tensor.dtype() != binding.dtype {
            return Err(self.retyped(binding, "an operator's argument keeps its type in a graph"));
        }
        if tensor.name() != &*binding.name {
            let error = refused(self.view, binding.tensor, "an operator's argument has no name in a graph");
            return Err(error.expected(format_args!("{:?}", binding.name)));
        }
        Ok(Bound { role, graph_name: None, is_noted: false, cast: None })
    }

    pub(super) fn rename(&mut self, local: &str, name: &str, idx: TensorIdx, scope: &mut Scope) {
        scope.renames.insert(local.to_owned(), name.to_owned());
        self.wanted.push((name.to_owned(), idx));
    }

    /// Numbers of the type that there is and of the one that is wanted. IR versions follow.
    fn check_cast(&mut self, binding: &Binding, opset: i64) -> Result<(i32, i32)> {
        let known = |dtype: DType| element(dtype).ok_or_else(misplaced);
        let (own, wanted) = (known(self.view.tensor(binding.tensor).dtype())?, known(binding.dtype)?);
        let least = own.cast_opset.max(wanted.cast_opset);
        if own.cast_opset == 0 || wanted.cast_opset == 0 || opset < least {
            let error =
                self.retyped(binding, "the graph's operators cannot cast this type to the one that it wants");
            return Err(error
                .expected(format_args!(
                    "version {least} of ai.onnx, to cast {} to {}",
                    own.dtype, wanted.dtype
                ))
                .found(format_args!("version {opset}")));
        }
        self.plan.ir_version = self.plan.ir_version.max(own.ir_version);
        Ok((own.data_type, wanted.data_type))
    }

    pub(super) fn retyped(&self, binding: &Binding, what: &'static str) -> Error {
        let dtype = self.view.tensor(binding.tensor).dtype();
        refused(self.view, binding.tensor, what)
            .expected(binding.dtype)
            .found(dtype)
            .hint("leave its type with --keep-dtype")
    }

    pub(super) fn reshaped(&self, binding: &Binding) -> Error {
        let shape = self.view.tensor(binding.tensor).shape();
        refused(self.view, binding.tensor, "the graph wants this tensor in its own shape")
            .found(format_args!("{shape:?}"))
    }

    /// A name that no value has.
    fn free_name(&mut self, name: &str) -> String {
        let numbered = (2u64..).map(|number| format!("{name}.{number}"));
        let mut candidates = std::iter::once(name.to_owned()).chain(numbered);
        candidates.find(|name| self.taken.insert(name.clone())).unwrap_or_default()
    }

    /// A new name may be one that another tensor gives up, and no other's.
    pub(super) fn check_names(&self) -> Result<()> {
        let given_up: HashSet<&String> =
            self.plan.scopes.values().flat_map(|scope| scope.renames.keys()).collect();
        let clash =
            self.wanted.iter().find(|(name, _)| self.names.contains(name) && !given_up.contains(name));
        match clash {
            None => Ok(()),
            Some((name, idx)) => Err(refused(self.view, *idx, "the graph uses this name for something else")
                .found(format_args!("{name:?}"))),
        }
    }
}
