//! Names of classes and functions, and calls of them: recorded, never made.

use super::machine::Machine;
use modelferry_core::error::Result;
use modelferry_core::tree::{Global, Instance, Making, Object, ObjectId};

impl Machine<'_, '_> {
    pub(super) fn global(&mut self, module: Box<str>, name: Box<str>) -> Result<ObjectId> {
        self.add(Object::Global(Box::new(Global { module, name })))
    }

    /// A name written on two lines.
    pub(super) fn global_lines(&mut self) -> Result<ObjectId> {
        let module = self.name_line()?;
        let name = self.name_line()?;
        self.global(module, name)
    }

    fn name_line(&mut self) -> Result<Box<str>> {
        let name = std::str::from_utf8(self.source.line()?).map(Box::from);
        name.map_err(|_| self.not_utf8())
    }

    /// A name on the stack.
    pub(super) fn stack_global(&mut self) -> Result<()> {
        let start = self.reach(2)?;
        let mut parts = self.stack[start..].iter().map(|&id| self.tree.text(id));
        let (Some(Some(module)), Some(Some(name))) = (parts.next(), parts.next()) else {
            return Err(self.fault("a name in a pickle is no text"));
        };
        let (module, name) = (module.into(), name.into());
        self.stack.truncate(start);
        let id = self.global(module, name)?;
        self.stack.push(id);
        Ok(())
    }

    /// A class or object that only a registry of the running program knows.
    pub(super) fn extension(&mut self, code: i32) -> Result<()> {
        if code <= 0 {
            return Err(self.fault("an extension's number in a pickle is not positive"));
        }
        let callable = self.global("copyreg".into(), format!("extension {code}").into())?;
        let args = self.empty_tuple()?;
        self.make(Making::Call, callable, args)
    }

    /// Adds what a call would have made, and puts it on the stack.
    pub(super) fn make(&mut self, making: Making, callable: ObjectId, args: ObjectId) -> Result<()> {
        let instance = Instance { making, ..Instance::new(callable, args) };
        self.push(Object::Instance(Box::new(instance)))
    }

    /// A call with its arguments on the stack.
    pub(super) fn call(&mut self, making: Making) -> Result<()> {
        let start = self.reach(2)?;
        let (callable, args) = (self.stack[start], self.stack[start + 1]);
        self.stack.truncate(start);
        self.make(making, callable, args)
    }

    pub(super) fn call_with_keywords(&mut self) -> Result<()> {
        let start = self.reach(3)?;
        let (callable, args, kwargs) = (self.stack[start], self.stack[start + 1], self.stack[start + 2]);
        if !matches!(self.tree[kwargs], Object::Dict(_)) {
            return Err(self.fault("the keyword arguments of a call in a pickle are no dictionary"));
        }
        self.stack.truncate(start);
        let instance =
            Instance { making: Making::New, kwargs: Some(kwargs), ..Instance::new(callable, args) };
        self.push(Object::Instance(Box::new(instance)))
    }

    /// Protocol 1: the class is the first value above the mark.
    pub(super) fn obj(&mut self) -> Result<()> {
        let start = self.pop_mark()?;
        let callable = self.stack.get(start).copied();
        let callable = callable.ok_or_else(|| self.fault("the pickle's stack holds too little"))?;
        self.old_style(start, start + 1, callable)
    }

    /// Protocol 0: the class is named on two lines.
    pub(super) fn inst(&mut self) -> Result<()> {
        let callable = self.global_lines()?;
        let start = self.pop_mark()?;
        self.old_style(start, start, callable)
    }

    /// Python 2 runs no initializer where there is nothing to give it.
    fn old_style(&mut self, start: usize, args_start: usize, callable: ObjectId) -> Result<()> {
        let making = if args_start == self.stack.len() { Making::New } else { Making::Call };
        self.tuple(args_start)?;
        let args = self.pop()?;
        self.stack.truncate(start);
        self.make(making, callable, args)
    }

    /// Gives an instance its state.
    pub(super) fn build(&mut self) -> Result<()> {
        let start = self.reach(2)?;
        let (target, state) = (self.stack[start], self.stack[start + 1]);
        match self.tree.get_mut(target) {
            Object::Instance(instance) => instance.states.push(state),
            _ => return Err(self.fault("a pickle gives a state to what takes none")),
        }
        self.stack.truncate(start + 1);
        Ok(())
    }
}
