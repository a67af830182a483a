//! Weights in safetensors files, one or several with an index of which tensor lies where.

use std::collections::BTreeMap;

use bytes::Bytes;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use super::{Checkpoint, Element, Stored};
use crate::onnx::convert::ConvertError;

pub struct Safetensors {
    tensors: BTreeMap<String, Stored>,
    bytes: BTreeMap<String, Bytes>,
}

/// `model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    /// The file of each tensor.
    weight_map: BTreeMap<String, String>,
}

/// The names of the files that an index asks for, for whoever has to bring them.
pub fn shards(index: &[u8]) -> Result<Vec<String>, ConvertError> {
    let mut files: Vec<_> = parse(index)?.weight_map.into_values().collect();
    files.sort();
    files.dedup();
    Ok(files)
}

fn parse(index: &[u8]) -> Result<Index, ConvertError> {
    serde_json::from_slice(index).map_err(|source| ConvertError::IndexJson { source })
}

impl Safetensors {
    /// A checkpoint of one file, whose bytes are kept and not copied.
    pub fn new(file: &Bytes) -> Result<Self, ConvertError> {
        let mut read = Self { tensors: BTreeMap::new(), bytes: BTreeMap::new() };
        read.add("model.safetensors", file)?;
        Ok(read)
    }

    /// A checkpoint of several files, each under its name in the index.
    pub fn sharded(index: &[u8], files: &BTreeMap<String, Bytes>) -> Result<Self, ConvertError> {
        let mut read = Self { tensors: BTreeMap::new(), bytes: BTreeMap::new() };
        for file in shards(index)? {
            let bytes = files.get(&file).ok_or_else(|| ConvertError::NoShard { file: file.clone() })?;
            read.add(&file, bytes)?;
        }
        for name in parse(index)?.weight_map.into_keys() {
            if !read.tensors.contains_key(&name) {
                return Err(ConvertError::NoTensor { name });
            }
        }
        Ok(read)
    }

    fn add(&mut self, file: &str, bytes: &Bytes) -> Result<(), ConvertError> {
        let broken = |message: String| ConvertError::Safetensors { file: file.to_owned(), message };
        let read = SafeTensors::deserialize(bytes).map_err(|error| broken(error.to_string()))?;
        for (name, view) in read.iter() {
            let element = element(view.dtype()).ok_or_else(|| {
                broken(format!("tensor {name:?} is of {:?}, which is not supported", view.dtype()))
            })?;
            let shape = view.shape().iter().map(|size| *size as u64).collect();
            if self.tensors.insert(name.to_owned(), Stored { element, shape }).is_some() {
                return Err(broken(format!("tensor {name:?} is in another file too")));
            }
            self.bytes.insert(name.to_owned(), bytes.slice_ref(view.data()));
        }
        Ok(())
    }
}

impl Checkpoint for Safetensors {
    fn tensors(&self) -> &BTreeMap<String, Stored> {
        &self.tensors
    }

    fn bytes(&self, name: &str) -> Result<Bytes, ConvertError> {
        self.bytes.get(name).cloned().ok_or_else(|| ConvertError::NoTensor { name: name.to_owned() })
    }
}

fn element(dtype: Dtype) -> Option<Element> {
    Some(match dtype {
        Dtype::F32 => Element::F32,
        Dtype::F16 => Element::F16,
        Dtype::BF16 => Element::Bf16,
        Dtype::F64 => Element::F64,
        Dtype::I64 => Element::I64,
        Dtype::I32 => Element::I32,
        Dtype::I16 => Element::I16,
        Dtype::I8 => Element::I8,
        Dtype::U8 => Element::U8,
        Dtype::BOOL => Element::Bool,
        _ => return None,
    })
}
