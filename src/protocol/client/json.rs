//! Tensor elements as JSON: flat or nested lists of numbers, booleans or strings.
//!
//! JSON has no non-finite numbers, so floats may also be the strings `NaN`, `Infinity` and `-Infinity`.

use std::fmt;

use half::{bf16, f16};
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeSeq, Serializer};
use serde_json::value::RawValue;

use crate::domain::{Datatype, Tensor};

/// Nesting beyond this is no tensor; it also bounds the parser's stack.
const NESTING_MAX: usize = 16;

/// The elements of `data` as little-endian bytes.
pub(super) fn parse(datatype: Datatype, data: &RawValue) -> Result<Vec<u8>, serde_json::Error> {
    // A JSON number with its comma takes two bytes at least.
    let mut bytes = Vec::with_capacity(datatype.size().unwrap_or(8) * (data.get().len() / 2).min(1 << 16));
    let mut deserializer = serde_json::Deserializer::from_str(data.get());
    Elements { datatype, bytes: &mut bytes, depth: 0 }.deserialize(&mut deserializer)?;
    Ok(bytes)
}

struct Elements<'a> {
    datatype: Datatype,
    bytes: &'a mut Vec<u8>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Elements<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

macro_rules! push_integer {
    ($self:ident, $value:ident, $type:ty) => {
        $self.bytes.extend_from_slice(
            &<$type>::try_from($value)
                .map_err(|_| E::custom(format!("{} does not fit {}", $value, $self.datatype)))?
                .to_le_bytes(),
        )
    };
}

impl Elements<'_> {
    fn integer<E, N>(self, value: N) -> Result<(), E>
    where
        E: Error,
        N: Copy + fmt::Display,
        u8: TryFrom<N>,
        u16: TryFrom<N>,
        u32: TryFrom<N>,
        u64: TryFrom<N>,
        i8: TryFrom<N>,
        i16: TryFrom<N>,
        i32: TryFrom<N>,
        i64: TryFrom<N>,
    {
        match self.datatype {
            Datatype::Uint8 => push_integer!(self, value, u8),
            Datatype::Uint16 => push_integer!(self, value, u16),
            Datatype::Uint32 => push_integer!(self, value, u32),
            Datatype::Uint64 => push_integer!(self, value, u64),
            Datatype::Int8 => push_integer!(self, value, i8),
            Datatype::Int16 => push_integer!(self, value, i16),
            Datatype::Int32 => push_integer!(self, value, i32),
            Datatype::Int64 => push_integer!(self, value, i64),
            other => return Err(E::custom(format!("{value} is no {other}"))),
        }
        Ok(())
    }

    fn float<E: Error>(self, value: f64) -> Result<(), E> {
        let infinite = match self.datatype {
            Datatype::Fp16 => {
                let float = f16::from_f64(value);
                self.bytes.extend_from_slice(&float.to_le_bytes());
                float.is_infinite()
            }
            Datatype::Bf16 => {
                let float = bf16::from_f64(value);
                self.bytes.extend_from_slice(&float.to_le_bytes());
                float.is_infinite()
            }
            Datatype::Fp32 => {
                let float = value as f32;
                self.bytes.extend_from_slice(&float.to_le_bytes());
                float.is_infinite()
            }
            Datatype::Fp64 => {
                self.bytes.extend_from_slice(&value.to_le_bytes());
                value.is_infinite()
            }
            other => return Err(E::custom(format!("{value} is no {other}"))),
        };
        if infinite && value.is_finite() {
            return Err(E::custom(format!("{value:e} does not fit {}", self.datatype)));
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} elements or lists of them", self.datatype)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if self.depth == NESTING_MAX {
            return Err(A::Error::custom(format!("lists are nested more than {NESTING_MAX} deep")));
        }
        let (datatype, depth) = (self.datatype, self.depth + 1);
        while list.next_element_seed(Elements { datatype, bytes: self.bytes, depth })?.is_some() {}
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        match self.datatype {
            Datatype::Bool => self.bytes.push(u8::from(value)),
            other => return Err(E::custom(format!("{value} is no {other}"))),
        }
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        if self.datatype.is_float() { self.float(value as f64) } else { self.integer(value) }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        if self.datatype.is_float() { self.float(value as f64) } else { self.integer(value) }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.float(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        if self.datatype == Datatype::Bytes {
            let length = u32::try_from(value.len()).map_err(|_| E::custom("a string is over 4 GiB"))?;
            self.bytes.extend_from_slice(&length.to_le_bytes());
            self.bytes.extend_from_slice(value.as_bytes());
            return Ok(());
        }
        match value {
            "NaN" => self.float(f64::NAN),
            "Infinity" => self.float(f64::INFINITY),
            "-Infinity" => self.float(f64::NEG_INFINITY),
            _ => Err(E::custom(format!("{value:?} is no {}", self.datatype))),
        }
    }
}

/// A tensor's elements as one flat JSON list.
pub(super) struct Data<'a>(pub(super) &'a Tensor);

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = self.0.body.contiguous();
        let mut list = serializer.serialize_seq(None)?;
        macro_rules! numbers {
            ($type:ty) => {
                for chunk in bytes.as_chunks::<{ size_of::<$type>() }>().0 {
                    list.serialize_element(&<$type>::from_le_bytes(*chunk))?;
                }
            };
        }
        macro_rules! floats {
            ($type:ty) => {
                for chunk in bytes.as_chunks::<{ size_of::<$type>() }>().0 {
                    list.serialize_element(&Float(<$type>::from_le_bytes(*chunk)))?;
                }
            };
        }
        match self.0.datatype {
            Datatype::Bool => bytes.iter().try_for_each(|byte| list.serialize_element(&(*byte != 0)))?,
            Datatype::Uint8 => numbers!(u8),
            Datatype::Uint16 => numbers!(u16),
            Datatype::Uint32 => numbers!(u32),
            Datatype::Uint64 => numbers!(u64),
            Datatype::Int8 => numbers!(i8),
            Datatype::Int16 => numbers!(i16),
            Datatype::Int32 => numbers!(i32),
            Datatype::Int64 => numbers!(i64),
            Datatype::Fp16 => floats!(f16),
            Datatype::Bf16 => floats!(bf16),
            Datatype::Fp32 => floats!(f32),
            Datatype::Fp64 => floats!(f64),
            Datatype::Bytes => {
                let mut rest: &[u8] = &bytes;
                while let Some((length, after)) = rest.split_first_chunk::<4>() {
                    let (text, after) = after.split_at(after.len().min(u32::from_le_bytes(*length) as usize));
                    list.serialize_element(&String::from_utf8_lossy(text))?;
                    rest = after;
                }
            }
        }
        list.end()
    }
}

/// A tensor's elements as a JSON value.
pub fn elements(tensor: &Tensor) -> serde_json::Value {
    serde_json::to_value(Data(tensor)).expect("elements are numbers, booleans and strings")
}

struct Float<T>(T);

macro_rules! float {
    ($type:ty, $to:ty) => {
        impl Serialize for Float<$type> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let value = <$to>::from(self.0);
                match value {
                    _ if value.is_nan() => serializer.serialize_str("NaN"),
                    _ if value == <$to>::INFINITY => serializer.serialize_str("Infinity"),
                    _ if value == <$to>::NEG_INFINITY => serializer.serialize_str("-Infinity"),
                    _ => value.serialize(serializer),
                }
            }
        }
    };
}

float!(f16, f32);
float!(bf16, f32);
float!(f32, f32);
float!(f64, f64);

/// A tensor without its name, as JSON.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct TensorJson {
    pub datatype: Datatype,
    pub shape: Vec<u64>,
    /// A flat or nested list.
    #[schema(value_type = Vec<serde_json::Value>)]
    pub data: Box<RawValue>,
}

impl TensorJson {
    pub fn of(tensor: &Tensor) -> Self {
        let data = serde_json::value::to_raw_value(&Data(tensor));
        let data = data.expect("elements are numbers, booleans and strings");
        Self { datatype: tensor.datatype, shape: tensor.shape.clone(), data }
    }

    pub fn tensor(&self, name: &str) -> Result<Tensor, String> {
        let bytes = parse(self.datatype, &self.data).map_err(|error| format!("input {name:?}: {error}"))?;
        let (name, shape) = (name.to_owned(), self.shape.clone());
        let tensor = Tensor { name, datatype: self.datatype, shape, body: bytes.into() };
        tensor.check().map_err(|error| format!("input {:?}: {error}", tensor.name))?;
        Ok(tensor)
    }
}
