//! The restricted machine that reads a checkpoint's pickle: the operations that `torch.save` writes, and of all that a
//! pickle can call only what describes tensors. Nothing else is looked up, let alone run.
//!
//! Values lie in one list and refer to each other by place, so that what the pickle shares is shared here too.

use std::{collections::HashMap, str};

use super::{TorchError, View};
use crate::onnx::convert::checkpoint::Element;

/// A tensor takes some twenty values, and the largest checkpoints have some ten thousand tensors.
/// The memo has no more entries either.
const VALUES_MAX: usize = 1 << 19;

/// Python empties its stack into a dictionary or list after each thousand members.
const STACK_MAX: usize = 1 << 16;

/// Open marks. Each is a list or tuple within another.
const MARKS_MAX: usize = 256;

/// Weights of convolutions in three dimensions have five.
const RANK_MAX: usize = 8;

pub(super) type Place = usize;

/// A storage as the pickle mentions it: its bytes are the archive's member `data/KEY`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Storage<'p> {
    pub(super) key: &'p str,
    pub(super) element: Element,
    pub(super) elements: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Global {
    RebuildTensor,
    RebuildParameter,
    OrderedDict,
    Size,
    Storage(Element),
}

#[derive(Debug)]
pub(super) enum Value<'p> {
    /// Nothing, a fraction, or a number beyond 64 bits: a checkpoint may hold them, tensors are not made of them.
    Other,
    Whole(i64),
    Text(&'p str),
    Tuple(Vec<Place>),
    List(Vec<Place>),
    Dict(Vec<(Place, Place)>),
    Global(Global),
    Storage(Storage<'p>),
    Tensor(Storage<'p>, View),
}

/// What a pickle was found to hold.
#[derive(Debug)]
pub(super) struct Pickled<'p> {
    pub(super) values: Vec<Value<'p>>,
    pub(super) root: Place,
}

pub(super) fn read(pickle: &[u8]) -> Result<Pickled<'_>, TorchError> {
    let mut machine = Machine {
        pickle,
        at: 0,
        values: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    loop {
        let from = machine.at;
        match machine.step() {
            Ok(None) => {}
            Ok(Some(root)) => return Ok(Pickled { values: machine.values, root }),
            Err(Stop::Wrong(problem)) => return Err(TorchError::Pickle { at: from, problem }),
            Err(Stop::Operation(code)) => return Err(TorchError::Operation { at: from, code }),
            Err(Stop::Global(name)) => return Err(TorchError::Global { name }),
        }
    }
}

enum Stop {
    Wrong(&'static str),
    Operation(u8),
    Global(String),
}

struct Machine<'p> {
    pickle: &'p [u8],
    at: usize,
    values: Vec<Value<'p>>,
    stack: Vec<Place>,
    marks: Vec<usize>,
    memo: HashMap<u32, Place>,
}

impl<'p> Machine<'p> {
    /// One operation; the last answers with the value that the pickle is of.
    fn step(&mut self) -> Result<Option<Place>, Stop> {
        match self.byte()? {
            0x80 => match self.byte()? {
                2 => {}
                _ => return Err(Stop::Wrong("not of protocol 2, which torch.save writes")),
            },
            b'N' | b'\x88' | b'\x89' => self.push(Value::Other)?,
            b'G' => {
                self.take(8)?;
                self.push(Value::Other)?;
            }
            b'K' => self.number(1)?,
            b'M' => self.number(2)?,
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Whole(value.into()))?;
            }
            b'\x8a' => self.long()?,
            b'X' => {
                let bytes = u32::from_le_bytes(self.array()?) as usize;
                let text =
                    str::from_utf8(self.take(bytes)?).map_err(|_| Stop::Wrong("a text is not UTF-8"))?;
                self.push(Value::Text(text))?;
            }
            b'}' => self.push(Value::Dict(Vec::new()))?,
            b']' => self.push(Value::List(Vec::new()))?,
            b')' => self.push(Value::Tuple(Vec::new()))?,
            b'\x85' => self.tuple(1)?,
            b'\x86' => self.tuple(2)?,
            b'\x87' => self.tuple(3)?,
            b't' => {
                let members = self.marked()?;
                self.push(Value::Tuple(members))?;
            }
            b'(' if self.marks.len() == MARKS_MAX => return Err(Stop::Wrong("nested too deeply")),
            b'(' => self.marks.push(self.stack.len()),
            b'q' => self.remember(1)?,
            b'r' => self.remember(4)?,
            b'h' => self.recall(1)?,
            b'j' => self.recall(4)?,
            b'c' => self.global()?,
            b'Q' => self.storage()?,
            b'R' => self.reduce()?,
            b'b' => self.build()?,
            b'a' | b'e' | b's' | b'u' => {
                self.at -= 1;
                self.fill()?;
            }
            b'.' => return self.end().map(Some),
            code => return Err(Stop::Operation(code)),
        }
        Ok(None)
    }

    fn end(&mut self) -> Result<Place, Stop> {
        let root = self.pop()?;
        if self.stack.is_empty() && self.marks.is_empty() {
            return Ok(root);
        }
        Err(Stop::Wrong("it ends with values left over"))
    }

    fn take(&mut self, bytes: usize) -> Result<&'p [u8], Stop> {
        let rest = &self.pickle[self.at..];
        let taken = rest.get(..bytes).ok_or(Stop::Wrong("it is cut short"))?;
        self.at += bytes;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        self.take(N).map(|taken| taken.try_into().expect("as many as were taken"))
    }

    /// A number of so many bytes, without a sign.
    fn unsigned(&mut self, bytes: usize) -> Result<u32, Stop> {
        let little = self.take(bytes)?.iter().rev();
        Ok(little.fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    fn number(&mut self, bytes: usize) -> Result<(), Stop> {
        let value = self.unsigned(bytes)?;
        self.push(Value::Whole(value.into()))
    }

    /// A number with a sign, as long as its first byte says.
    fn long(&mut self) -> Result<(), Stop> {
        let bytes = self.byte()?;
        let little = self.take(bytes.into())?;
        if little.len() > 8 {
            return self.push(Value::Other);
        }
        let negative = little.last().is_some_and(|high| high & 0x80 != 0);
        let mut whole = [if negative { 0xff } else { 0 }; 8];
        whole[..little.len()].copy_from_slice(little);
        self.push(Value::Whole(i64::from_le_bytes(whole)))
    }

    fn push(&mut self, value: Value<'p>) -> Result<(), Stop> {
        if self.values.len() == VALUES_MAX {
            return Err(Stop::Wrong("more values than a checkpoint has"));
        }
        self.values.push(value);
        self.push_place(self.values.len() - 1)
    }

    fn push_place(&mut self, place: Place) -> Result<(), Stop> {
        if self.stack.len() == STACK_MAX {
            return Err(Stop::Wrong("more values at once than a checkpoint needs"));
        }
        self.stack.push(place);
        Ok(())
    }

    /// The uppermost value, if it lies above the last mark.
    fn pop(&mut self) -> Result<Place, Stop> {
        match self.stack.pop() {
            Some(place) if self.stack.len() >= self.floor() => Ok(place),
            _ => Err(Stop::Wrong("a value is missing")),
        }
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    /// What lies above the last mark, which goes too.
    fn marked(&mut self) -> Result<Vec<Place>, Stop> {
        let mark = self.marks.pop().ok_or(Stop::Wrong("a mark is missing"))?;
        Ok(self.stack.split_off(mark))
    }

    fn tuple(&mut self, members: usize) -> Result<(), Stop> {
        let from = self.stack.len().checked_sub(members).filter(|from| *from >= self.floor());
        let members = self.stack.split_off(from.ok_or(Stop::Wrong("a value is missing"))?);
        self.push(Value::Tuple(members))
    }

    fn remember(&mut self, bytes: usize) -> Result<(), Stop> {
        let key = self.unsigned(bytes)?;
        let place = *self.stack.last().ok_or(Stop::Wrong("a value is missing"))?;
        if self.memo.len() == VALUES_MAX {
            return Err(Stop::Wrong("more values than a checkpoint has"));
        }
        self.memo.insert(key, place);
        Ok(())
    }

    fn recall(&mut self, bytes: usize) -> Result<(), Stop> {
        let key = self.unsigned(bytes)?;
        let place = *self.memo.get(&key).ok_or(Stop::Wrong("it recalls what it never kept"))?;
        self.push_place(place)
    }

    fn line(&mut self) -> Result<&'p str, Stop> {
        let rest = &self.pickle[self.at..];
        let bytes = rest.iter().position(|byte| *byte == b'\n').ok_or(Stop::Wrong("it is cut short"))?;
        self.at += bytes + 1;
        str::from_utf8(&rest[..bytes]).map_err(|_| Stop::Wrong("a name is not UTF-8"))
    }

    fn global(&mut self) -> Result<(), Stop> {
        let (module, name) = (self.line()?, self.line()?);
        let global = known(module, name).ok_or_else(|| {
            // A name may be as long as the pickle; the error has the part that tells.
            let shown: String = format!("{module}.{name}").chars().take(120).collect();
            Stop::Global(shown)
        })?;
        self.push(Value::Global(global))
    }

    /// `('storage', torch.FloatStorage, key, device, elements)`, which the pickle refers to and does not hold.
    fn storage(&mut self) -> Result<(), Stop> {
        let refused = Stop::Wrong("it refers to something that is no storage");
        let reference = self.pop()?;
        let Value::Tuple(members) = &self.values[reference] else { return Err(refused) };
        let [tag, kind, key, _device, elements] = members.as_slice() else { return Err(refused) };
        let storage = match [tag, kind, key, elements].map(|member| &self.values[*member]) {
            [
                Value::Text("storage"),
                Value::Global(Global::Storage(element)),
                Value::Text(key),
                Value::Whole(elements),
            ] => Storage {
                key,
                element: *element,
                elements: u64::try_from(*elements).map_err(|_| Stop::Wrong("a storage of negative size"))?,
            },
            _ => return Err(refused),
        };
        self.push(Value::Storage(storage))
    }

    fn reduce(&mut self) -> Result<(), Stop> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let Value::Tuple(arguments) = &self.values[arguments] else {
            return Err(Stop::Wrong("arguments that are no tuple"));
        };
        let Value::Global(callee) = self.values[callee] else {
            return Err(Stop::Wrong("it calls what cannot be called"));
        };
        match (callee, arguments.as_slice()) {
            (Global::OrderedDict, []) => self.push(Value::Dict(Vec::new())),
            // The shape, and the tensor that the parameter wraps.
            (Global::Size, [inner]) | (Global::RebuildParameter, [inner, _, _]) => self.push_place(*inner),
            (
                Global::RebuildTensor,
                [storage, offset, shape, strides, _, _] | [storage, offset, shape, strides, _, _, _],
            ) => {
                let [storage, offset, shape, strides] = [*storage, *offset, *shape, *strides];
                let Value::Storage(storage) = &self.values[storage] else {
                    return Err(Stop::Wrong("a tensor without a storage"));
                };
                let view = View {
                    offset: self.size(offset)?,
                    shape: self.sizes(shape)?,
                    strides: self.sizes(strides)?,
                };
                if view.shape.len() != view.strides.len() {
                    return Err(Stop::Wrong("a tensor has another number of strides than of dimensions"));
                }
                self.push(Value::Tensor(storage.clone(), view))
            }
            _ => Err(Stop::Wrong("a call with arguments that torch.save does not write")),
        }
    }

    fn size(&self, place: Place) -> Result<u64, Stop> {
        match self.values[place] {
            Value::Whole(size) if size >= 0 => Ok(size.unsigned_abs()),
            _ => Err(Stop::Wrong("a tensor's size is not a whole number from 0")),
        }
    }

    fn sizes(&self, place: Place) -> Result<Vec<u64>, Stop> {
        match &self.values[place] {
            Value::Tuple(sizes) if sizes.len() <= RANK_MAX => {
                sizes.iter().map(|size| self.size(*size)).collect()
            }
            _ => Err(Stop::Wrong("a tensor's sizes are no tuple of at most 8")),
        }
    }

    /// An ordered dictionary's attributes, which are not weights.
    fn build(&mut self) -> Result<(), Stop> {
        self.pop()?;
        let built = self.pop()?;
        match self.values[built] {
            Value::Dict(_) => self.push_place(built),
            _ => Err(Stop::Wrong("it sets attributes of something other than a dictionary")),
        }
    }

    /// Members for a list or a dictionary: one, or all above the mark.
    fn fill(&mut self) -> Result<(), Stop> {
        let code = self.byte()?;
        let members = match code {
            b'a' => vec![self.pop()?],
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                vec![key, value]
            }
            _ => self.marked()?,
        };
        let filled = self.pop()?;
        match (&mut self.values[filled], code) {
            (Value::List(list), b'a' | b'e') => list.extend(members),
            (Value::Dict(dict), b's' | b'u') => {
                let (pairs, []) = members.as_chunks::<2>() else {
                    return Err(Stop::Wrong("a key without a value"));
                };
                dict.extend(pairs.iter().map(|[key, value]| (*key, *value)));
            }
            _ => return Err(Stop::Wrong("members for something that has none")),
        }
        self.push_place(filled)
    }
}

fn known(module: &str, name: &str) -> Option<Global> {
    Some(match (module, name) {
        ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch", "Size") => Global::Size,
        ("torch", storage) => Global::Storage(match storage {
            "FloatStorage" => Element::F32,
            "HalfStorage" => Element::F16,
            "BFloat16Storage" => Element::Bf16,
            "DoubleStorage" => Element::F64,
            "LongStorage" => Element::I64,
            "IntStorage" => Element::I32,
            "ShortStorage" => Element::I16,
            "CharStorage" => Element::I8,
            "ByteStorage" => Element::U8,
            "BoolStorage" => Element::Bool,
            _ => return None,
        }),
        _ => return None,
    })
}
