//! What a routine is made for, and a model that has one made for whatever inputs come.

use std::collections::{BTreeMap, BTreeSet};

use super::{Keeping, LowerError, Model};
use crate::{
    domain::Tensor,
    kernels::{host::Host, ir::Routine},
};

/// The shapes of the inputs, the values of those that sizes within the model depend on, and what becomes of caches.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sizes {
    pub shapes: BTreeMap<String, Vec<usize>>,
    pub values: BTreeMap<String, Vec<i64>>,
    /// Where a lane keeps them.
    pub keeping: Option<Keeping>,
}

/// A model, with the inputs whose values lowering has asked for so far.
#[derive(Debug)]
pub struct Tailor {
    model: Model,
    by_value: BTreeSet<String>,
}

impl Tailor {
    pub fn new(model: Model) -> Self {
        Self { model, by_value: BTreeSet::new() }
    }

    pub fn model(&self) -> &Model {
        &self.model
    }

    /// What a routine for these inputs is made for, as far as that is known; they fit the model's signature.
    pub fn sizes(&self, inputs: &[Tensor], keeping: Option<Keeping>) -> Result<Sizes, LowerError> {
        let mut sizes = Sizes { keeping, ..Sizes::default() };
        for Tensor { name, datatype, shape, body } in inputs {
            if self.by_value.contains(name) {
                let Some(Host::I64(values)) = Host::decode(&body.contiguous(), *datatype) else {
                    return Err(LowerError::Datatype { name: name.clone(), datatype: *datatype });
                };
                sizes.values.insert(name.clone(), values);
            }
            sizes.shapes.insert(name.clone(), shape.iter().map(|size| *size as usize).collect());
        }
        Ok(sizes)
    }

    /// A routine for these inputs, and what it is made for.
    pub fn lower(
        &mut self,
        inputs: &[Tensor],
        keeping: Option<Keeping>,
    ) -> Result<(Sizes, Routine), LowerError> {
        loop {
            let sizes = self.sizes(inputs, keeping)?;
            let values = sizes.values.iter();
            let values = values.map(|(name, values)| (name.clone(), Host::I64(values.clone()))).collect();
            match self.model.lower(&sizes.shapes, &values, keeping) {
                Err(LowerError::NeedsValue { input }) if self.by_value.insert(input.clone()) => {}
                lowered => return Ok((sizes, lowered?)),
            }
        }
    }
}
