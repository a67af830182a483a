//! Tensor bytes that arrived in one or several messages, sliced and passed on without copying.

use bytes::{Bytes, BytesMut};

/// A run of bytes held as one or more parts, in order.
#[derive(Clone, Debug, Default)]
pub struct Body {
    parts: Vec<Bytes>,
    len: usize,
}

impl Body {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    pub fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.len += part.len();
            self.parts.push(part);
        }
    }

    pub fn append(&mut self, other: &Body) {
        other.parts.iter().cloned().for_each(|part| self.push(part));
    }

    /// The bytes `from..from + len`, sharing the parts' memory.
    /// The caller has checked that they are there.
    #[must_use]
    pub fn slice(&self, from: usize, len: usize) -> Self {
        let (mut skip, mut wanted) = (from, len);
        let mut slice = Self::default();
        for part in &self.parts {
            if wanted == 0 {
                break;
            }
            if skip >= part.len() {
                skip -= part.len();
                continue;
            }
            let taken = wanted.min(part.len() - skip);
            slice.push(part.slice(skip..skip + taken));
            wanted -= taken;
            skip = 0;
        }
        slice
    }

    /// One contiguous run; copies only when there are several parts.
    pub fn contiguous(&self) -> Bytes {
        match self.parts.as_slice() {
            [] => Bytes::new(),
            [only] => only.clone(),
            parts => {
                let mut joined = BytesMut::with_capacity(self.len);
                for part in parts {
                    joined.extend_from_slice(part);
                }
                joined.freeze()
            }
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        let mut body = Self::default();
        body.push(bytes);
        body
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.contiguous() == other.contiguous()
    }
}
