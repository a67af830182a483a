//! PyTorch's checkpoints: the zip files that `torch.save` has written since version 1.6.
//!
//! Only weights are read. The pickle in such a file is a program; here nothing of it is executed, and one that would
//! call anything but what describes a tensor is refused by that name. All is checked when the file is opened, so
//! that reading a weight cannot fail.

mod pickle;
mod tree;

use std::{
    collections::BTreeMap,
    io::{self, Cursor},
};

use bytes::Bytes;
use zip::{CompressionMethod, ZipArchive, result::ZipError};

use super::{Checkpoint, Stored};
use crate::onnx::convert::ConvertError;
use pickle::Storage;

/// A tensor takes some 200 bytes of pickle, and the largest checkpoints have some ten thousand tensors.
const PICKLE_BYTES_MAX: usize = 32 << 20;

/// A member for each storage, of which there are no more than tensors.
const MEMBERS_MAX: usize = 100_000;

/// A view may repeat elements, so that a storage of one element makes a tensor of any size.
/// Masks and tables of positions that are kept so have at most this many bytes.
const REPEATED_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum TorchError {
    #[error("not a PyTorch checkpoint: neither a zip file nor a pickle")]
    NotTorch,
    #[error(
        "a bare pickle, which PyTorch wrote before version 1.6 or without its zip format; load it there with \
         weights_only=True and save it again"
    )]
    Legacy,
    #[error("not a readable zip file: {source}")]
    Zip { source: ZipError },
    #[error("the zip file has {members} members; a checkpoint has at most {MEMBERS_MAX}")]
    Members { members: usize },
    #[error("not a PyTorch checkpoint: the zip file has no member data.pkl in a folder")]
    NoPickle,
    #[error("member {member:?} is compressed or encrypted, and torch.save writes it as it is")]
    Packed { member: String },
    #[error("member {member:?} is damaged: {problem}")]
    Damaged { member: String, problem: String },
    #[error("the weights are stored in {order:?} byte order; only little is read")]
    ByteOrder { order: String },
    #[error("the pickle has {bytes} bytes; a checkpoint's has at most {PICKLE_BYTES_MAX}")]
    LongPickle { bytes: usize },
    #[error("the pickle cannot be read from byte {at}: {problem}")]
    Pickle { at: usize, problem: &'static str },
    #[error("the pickle has operation {code:#04x} at byte {at}, which torch.save does not write")]
    Operation { at: usize, code: u8 },
    #[error("the pickle would run {name}; only weights are read")]
    Global { name: String },
    #[error("the checkpoint holds no dictionary of tensors by name")]
    NoWeights,
    #[error(
        "the checkpoint holds several dictionaries of tensors, {first:?} and {second:?}; keep one of them"
    )]
    Several { first: String, second: String },
    #[error("weight {tensor:?} is in more than one of the files")]
    Twice { tensor: String },
    #[error("weight {tensor:?} needs storage {key:?}, which is missing")]
    NoStorage { tensor: String, key: String },
    #[error("weight {tensor:?} needs {wanted} bytes of storage {key:?}, which has {found}")]
    ShortStorage { tensor: String, key: String, wanted: u64, found: usize },
    #[error("weight {tensor:?} reaches beyond its storage")]
    Bounds { tensor: String },
    #[error("weight {tensor:?} repeats its storage's elements to more than {REPEATED_BYTES_MAX} bytes")]
    Repeated { tensor: String },
}

/// Which of a storage's elements a tensor has, counted in elements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct View {
    offset: u64,
    shape: Vec<u64>,
    strides: Vec<u64>,
}

impl View {
    /// Elements of the storage up to the last that the tensor has; `None` where that is beyond any storage.
    fn reach(&self) -> Option<u64> {
        if self.shape.contains(&0) {
            return Some(0);
        }
        let dims = self.shape.iter().zip(&self.strides);
        let last = dims.map(|(size, stride)| (size - 1).checked_mul(*stride));
        last.chain([Some(self.offset), Some(1)]).try_fold(0u64, |sum, part| sum.checked_add(part?))
    }

    /// `None` where the sizes cannot be multiplied in any order.
    fn elements(&self) -> Option<u64> {
        let most = self.shape.iter().try_fold(1u64, |product, size| product.checked_mul((*size).max(1)))?;
        Some(if self.shape.contains(&0) { 0 } else { most })
    }

    /// Whether the elements lie one after the other, row by row.
    fn contiguous(&self) -> bool {
        let mut expected = 1u64;
        self.shape.iter().zip(&self.strides).rev().all(|(size, stride)| {
            let lies = *size == 1 || *stride == expected;
            expected = expected.saturating_mul(*size);
            lies
        })
    }

    /// Calls for each element's place in the storage, row by row. Every place was checked by `reach`.
    fn places(&self, visit: &mut impl FnMut(usize)) {
        fn walk(dims: &[(u64, u64)], at: u64, visit: &mut impl FnMut(usize)) {
            match dims {
                [] => visit(at as usize),
                [(size, stride), inner @ ..] => {
                    (0..*size).for_each(|index| walk(inner, at + index * stride, visit));
                }
            }
        }
        let dims: Vec<_> = self.shape.iter().copied().zip(self.strides.iter().copied()).collect();
        walk(&dims, self.offset, visit);
    }
}

#[derive(Debug)]
struct Placed {
    storage: Bytes,
    view: View,
    width: usize,
}

#[derive(Debug)]
pub struct TorchCheckpoint {
    tensors: BTreeMap<String, Stored>,
    placed: BTreeMap<String, Placed>,
}

impl TorchCheckpoint {
    pub fn open(file: &Bytes) -> Result<Self, TorchError> {
        let mut archive = Archive::open(file)?;
        if let Some(order) = archive.member("byteorder")?
            && order.as_ref() != b"little"
        {
            let order = String::from_utf8_lossy(&order[..order.len().min(16)]).into_owned();
            return Err(TorchError::ByteOrder { order });
        }
        let pickle = archive.member("data.pkl")?.ok_or(TorchError::NoPickle)?;
        if pickle.len() > PICKLE_BYTES_MAX {
            return Err(TorchError::LongPickle { bytes: pickle.len() });
        }
        let pickled = pickle::read(&pickle)?;
        let mut opened = Self { tensors: BTreeMap::new(), placed: BTreeMap::new() };
        let mut storages = BTreeMap::new();
        for (name, (storage, view)) in tree::weights(&pickled)? {
            if !storages.contains_key(storage.key) {
                let member = archive.member(&format!("data/{}", storage.key))?;
                let (tensor, key) = (name.to_owned(), storage.key.to_owned());
                storages.insert(storage.key, member.ok_or(TorchError::NoStorage { tensor, key })?);
            }
            let placed = place(name, storage, view, &storages[storage.key])?;
            let stored = Stored { element: storage.element, shape: view.shape.clone() };
            opened.tensors.insert(name.to_owned(), stored);
            opened.placed.insert(name.to_owned(), placed);
        }
        Ok(opened)
    }

    /// One checkpoint whose weights lie in several files.
    pub fn join(parts: impl IntoIterator<Item = Self>) -> Result<Self, TorchError> {
        let mut joined = Self { tensors: BTreeMap::new(), placed: BTreeMap::new() };
        for part in parts {
            if let Some(tensor) = part.tensors.keys().find(|name| joined.tensors.contains_key(*name)) {
                return Err(TorchError::Twice { tensor: tensor.clone() });
            }
            joined.tensors.extend(part.tensors);
            joined.placed.extend(part.placed);
        }
        Ok(joined)
    }
}

/// Checks that the tensor lies within its storage and is no larger than what holds it.
fn place(name: &str, storage: &Storage<'_>, view: &View, bytes: &Bytes) -> Result<Placed, TorchError> {
    let tensor = || name.to_owned();
    let width = storage.element.width() as u64;
    let wanted = storage.elements.saturating_mul(width);
    if wanted > bytes.len() as u64 {
        let key = storage.key.to_owned();
        return Err(TorchError::ShortStorage { tensor: tensor(), key, wanted, found: bytes.len() });
    }
    if view.reach().is_none_or(|reach| reach > storage.elements) {
        return Err(TorchError::Bounds { tensor: tensor() });
    }
    let size = view.elements().and_then(|elements| elements.checked_mul(width));
    if size.is_none_or(|size| size > wanted.max(REPEATED_BYTES_MAX)) {
        return Err(TorchError::Repeated { tensor: tensor() });
    }
    Ok(Placed { storage: bytes.clone(), view: view.clone(), width: width as usize })
}

impl Checkpoint for TorchCheckpoint {
    fn tensors(&self) -> &BTreeMap<String, Stored> {
        &self.tensors
    }

    fn bytes(&self, name: &str) -> Result<Bytes, ConvertError> {
        let placed = self.placed.get(name).ok_or_else(|| ConvertError::NoTensor { name: name.to_owned() })?;
        let Placed { storage, view, width } = placed;
        let size = view.elements().expect("checked when the file was opened") as usize * width;
        if size == 0 {
            return Ok(Bytes::new());
        }
        if view.contiguous() {
            let from = view.offset as usize * width;
            return Ok(storage.slice(from..from + size));
        }
        let mut bytes = Vec::with_capacity(size);
        view.places(&mut |place| bytes.extend_from_slice(&storage[place * width..][..*width]));
        Ok(bytes.into())
    }
}

/// The zip file, whose members lie in one folder of whatever name.
struct Archive<'f> {
    file: &'f Bytes,
    zip: ZipArchive<Cursor<&'f [u8]>>,
    folder: String,
}

impl<'f> Archive<'f> {
    fn open(file: &'f Bytes) -> Result<Self, TorchError> {
        match file.as_ref() {
            // Legacy files are pickles of protocol 2, older ones tar files.
            [0x80, 2, ..] => return Err(TorchError::Legacy),
            [b'P', b'K', ..] => {}
            _ => return Err(TorchError::NotTorch),
        }
        let zip = ZipArchive::new(Cursor::new(file.as_ref())).map_err(|source| TorchError::Zip { source })?;
        if zip.len() > MEMBERS_MAX {
            return Err(TorchError::Members { members: zip.len() });
        }
        let folder = zip.file_names().flatten().find_map(|name| {
            let folder = name.strip_suffix("data.pkl")?;
            (folder.ends_with('/') && folder.matches('/').count() == 1).then(|| folder.to_owned())
        });
        Ok(Self { folder: folder.ok_or(TorchError::NoPickle)?, file, zip })
    }

    /// A member's bytes where they lie in the file, compared with their checksum.
    fn member(&mut self, name: &str) -> Result<Option<Bytes>, TorchError> {
        let name = format!("{}{name}", self.folder);
        let Some(index) = self.zip.index_for_name(&name) else { return Ok(None) };
        let damaged = |problem: &dyn ToString| TorchError::Damaged {
            member: name.clone(),
            problem: problem.to_string(),
        };
        let member = self.zip.by_index_raw(index).map_err(|error| damaged(&error))?;
        let stored =
            member.compression() == CompressionMethod::Stored && member.size() == member.compressed_size();
        if !stored || member.encrypted() {
            return Err(TorchError::Packed { member: name });
        }
        let (from, size) = (member.data_start().unwrap_or(u64::MAX), member.size());
        drop(member);
        let range = usize::try_from(from).ok().zip(usize::try_from(from.saturating_add(size)).ok());
        let (from, to) =
            range.filter(|(_, to)| *to <= self.file.len()).ok_or_else(|| damaged(&"it is cut short"))?;
        // Stored members are as long as they say, so that this reads no more than the file has.
        let mut checked = self.zip.by_index(index).map_err(|error| damaged(&error))?;
        io::copy(&mut checked, &mut io::sink()).map_err(|error| damaged(&error))?;
        Ok(Some(self.file.slice(from..to)))
    }
}

#[cfg(test)]
mod tests;
