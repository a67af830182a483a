//! A kernel under construction: its template, its parameters and what is bound to it.

use std::fmt::Write as _;

use super::{GpuError, text};
use crate::kernels::ir::{Slot, View};

/// One call as a dispatch: the source by which it is compiled, and what differs from call to call.
pub(super) struct Kernel {
    name: &'static str,
    template: &'static str,
    parts: Vec<(&'static str, String)>,
    /// The declaration of the parameters, which are all four bytes wide.
    fields: String,
    pub(super) words: Vec<u32>,
    bindings: String,
    pub(super) bound: Vec<Bound>,
    /// How many groups of threads.
    pub(super) groups: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    Read(Slot),
    Written(Slot),
    Fault,
}

impl Kernel {
    pub(super) fn new(name: &'static str, template: &'static str) -> Self {
        let (fields, bindings) = (String::new(), String::new());
        Self {
            name,
            template,
            parts: Vec::new(),
            fields,
            words: Vec::new(),
            bindings,
            bound: Vec::new(),
            groups: 0,
        }
    }

    /// What stands in the template's place of that name; it may name parts that come later.
    pub(super) fn part(&mut self, name: &'static str, text: impl Into<String>) {
        self.parts.push((name, text.into()));
    }

    fn field(&mut self, name: &str, kind: &str, word: u32) {
        writeln!(self.fields, "    {name}: {kind},").expect("a text takes everything");
        self.words.push(word);
    }

    /// A parameter that counts something; no buffer holds so much that it would not fit.
    pub(super) fn count(&mut self, name: &str, count: usize) {
        self.field(name, "u32", u32::try_from(count).expect("counts fit 32 bits"));
    }

    pub(super) fn int(&mut self, name: &str, value: i64) {
        self.field(name, "i32", i32::try_from(value).expect("places fit 32 bits").cast_unsigned());
    }

    pub(super) fn float(&mut self, name: &str, value: f32) {
        self.field(name, "f32", value.to_bits());
    }

    /// Where a view begins, and its strides, as `name_offset` and `name_s0` and on.
    pub(super) fn view(&mut self, name: &str, view: &View) {
        self.int(&format!("{name}_offset"), view.offset as i64);
        for (at, stride) in view.strides.iter().enumerate() {
            self.int(&format!("{name}_s{at}"), *stride);
        }
    }

    /// A constant of an expression, as its name in the source.
    pub(super) fn constant(&mut self, value: Constant) -> String {
        let name = format!("c{}", self.words.len());
        match value {
            Constant::Float(value) => self.float(&name, value),
            Constant::Int(value) => self.int(&name, value.into()),
        }
        format!("p.{name}")
    }

    fn bind(&mut self, access: &str, name: &str, kind: &str, bound: Bound) {
        self.bound.push(bound);
        let (at, space) = (self.bound.len(), format!("storage, {access}"));
        writeln!(self.bindings, "@group(0) @binding({at}) var<{space}> {name}: array<{kind}>;")
            .expect("a text takes everything");
    }

    pub(super) fn reads(&mut self, name: &str, kind: &str, slot: Slot) {
        self.bind("read", name, kind, Bound::Read(slot));
    }

    pub(super) fn faults(&mut self) {
        self.bind("read_write", "fault", "atomic<u32>", Bound::Fault);
    }

    /// The output comes last of all that is bound.
    pub(super) fn writes(&mut self, name: &str, kind: &str, slot: Slot) {
        self.bind("read_write", name, kind, Bound::Written(slot));
    }

    /// As many groups of this size as so many threads fill.
    pub(super) fn threads(&mut self, threads: usize, size: u32) {
        self.groups = (threads as u64).div_ceil(size.into());
        self.part("SIZE", size.to_string());
    }

    pub(super) fn source(&self) -> String {
        let Self { name, template, fields, bindings, .. } = self;
        let parts: Vec<(&str, &str)> = self.parts.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let body = text::fill(template, &parts);
        let functions = text::called(&body);
        format!(
            "// {name}\n\nstruct Params {{\n{fields}}}\n\n@group(0) @binding(0) var<uniform> p: Params;\n{bindings}\n\
             {body}{functions}\n"
        )
    }

    /// What no kernel may do: read what it writes.
    pub(super) fn check(&self) -> Result<(), GpuError> {
        let written = |slot: &Slot| self.bound.contains(&Bound::Written(*slot));
        let both = self.bound.iter().any(|bound| matches!(bound, Bound::Read(slot) if written(slot)));
        if both {
            Err(GpuError::Call { call: self.name, why: "it reads the slot that it writes" })
        } else {
            Ok(())
        }
    }
}

#[derive(Clone, Copy)]
pub(super) enum Constant {
    Float(f32),
    Int(i32),
}
