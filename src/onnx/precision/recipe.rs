//! What a variant is to be made of: a precision, or one for each of several names.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

use super::PrecisionError;

/// Models have some hundreds of layers, and a pattern covers many.
const LAYERS_MAX: usize = 256;

/// Some hundred bytes for each of as many layers.
const RECIPE_BYTES_MAX: usize = 64 << 10;

/// How wide a block may be: what `MatMulNBits` takes.
const BLOCKS: [u32; 5] = [16, 32, 64, 128, 256];

/// What is usual, and what most kernels are written for.
const BLOCK: u32 = 32;

/// How weights are kept, and how is computed with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// As they are.
    Fp32,
    /// Weights and computation in half precision; only of a whole model.
    Fp16,
    /// Weights in 8 bits with a scale per column; activations are quantised as they come.
    Int8Dynamic,
    /// Weights in blocks of few bits along the summed axis; computation stays as it is.
    Blocks { bits: Bits, block: u32, symmetric: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bits {
    Two,
    Four,
    Eight,
}

impl Bits {
    pub fn count(self) -> u32 {
        match self {
            Self::Two => 2,
            Self::Four => 4,
            Self::Eight => 8,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fp32 => f.write_str("fp32"),
            Self::Fp16 => f.write_str("fp16"),
            Self::Int8Dynamic => f.write_str("int8-dynamic"),
            Self::Blocks { bits, block, symmetric } => {
                let kind = if *symmetric { "symmetric" } else { "asymmetric" };
                write!(f, "int{},block={block},{kind}", bits.count())
            }
        }
    }
}

impl Serialize for Precision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Precision {
    fn bytes_least(self, bytes: u64) -> u64 {
        match self {
            Self::Fp32 => bytes,
            Self::Fp16 => bytes / 2,
            Self::Int8Dynamic => bytes / 4,
            Self::Blocks { bits, block, .. } => {
                bytes / 32 * u64::from(bits.count()) + bytes / u64::from(block)
            }
        }
    }

    /// `fp16`, `int8-dynamic`, `int4,block=32,symmetric` and the like.
    pub fn parse(text: &str) -> Result<Self, PrecisionError> {
        let mut words = text.split(',').map(str::trim);
        let first = words.next().unwrap_or_default();
        let bits = match first {
            "int2" => Some(Bits::Two),
            "int4" => Some(Bits::Four),
            "int8" => Some(Bits::Eight),
            _ => None,
        };
        let (mut block, mut symmetric) = (None, None);
        for word in words {
            let option = || PrecisionError::Option { precision: first.to_owned(), option: word.to_owned() };
            if bits.is_none() {
                return Err(option());
            }
            let once = match (word, word.strip_prefix("block=")) {
                (_, Some(width)) => {
                    let width = width.parse().ok().filter(|width| BLOCKS.contains(width));
                    block.replace(width.ok_or_else(option)?).is_none()
                }
                ("symmetric", _) => symmetric.replace(true).is_none(),
                ("asymmetric", _) => symmetric.replace(false).is_none(),
                _ => false,
            };
            if !once {
                return Err(option());
            }
        }
        match (first, bits) {
            (_, Some(bits)) => {
                Ok(Self::Blocks { bits, block: block.unwrap_or(BLOCK), symmetric: symmetric.unwrap_or(true) })
            }
            ("fp32", _) => Ok(Self::Fp32),
            ("fp16", _) => Ok(Self::Fp16),
            ("int8-dynamic", _) => Ok(Self::Int8Dynamic),
            _ => Err(PrecisionError::Precision { name: first.to_owned() }),
        }
    }
}

/// Which precision each layer gets.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Patterns of names of weights or nodes; the first that matches counts.
    layers: Vec<(String, Precision)>,
    default: Precision,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    default: String,
    #[serde(default)]
    layer: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Layer {
    name: String,
    precision: String,
}

impl Recipe {
    /// One precision for all layers.
    pub fn parse(text: &str) -> Result<Self, PrecisionError> {
        Self::checked(Vec::new(), Precision::parse(text)?)
    }

    /// `default = "int4"`, and `[[layer]]` with `name`, in which `*` stands for any text, and `precision`.
    pub fn from_toml(text: &str) -> Result<Self, PrecisionError> {
        if text.len() > RECIPE_BYTES_MAX {
            return Err(PrecisionError::LongRecipe { bytes: text.len() });
        }
        let written: Written = toml::from_str(text)
            .map_err(|error| PrecisionError::Toml { problem: error.message().to_owned() })?;
        let mut layers = Vec::new();
        for Layer { name, precision } in written.layer {
            layers.push((name, Precision::parse(&precision)?));
        }
        Self::checked(layers, Precision::parse(&written.default)?)
    }

    /// One precision for all layers.
    pub fn of_all(precision: Precision) -> Self {
        Self { layers: Vec::new(), default: precision }
    }

    /// These layers in a precision each, by the names of their weights; all others stay as they are.
    pub fn by_layer(layers: Vec<(String, Precision)>) -> Result<Self, PrecisionError> {
        Self::checked(layers, Precision::Fp32)
    }

    /// As `from_toml` reads it.
    pub fn to_toml(&self) -> String {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let layer = |(name, precision): &(String, Precision)| {
            let (name, precision) = (quoted(name), quoted(&precision.to_string()));
            format!("\n[[layer]]\nname = {name}\nprecision = {precision}\n")
        };
        let layers: String = self.layers.iter().map(layer).collect();
        format!("default = {}\n{layers}", quoted(&self.default.to_string()))
    }

    fn checked(layers: Vec<(String, Precision)>, default: Precision) -> Result<Self, PrecisionError> {
        if layers.len() > LAYERS_MAX {
            return Err(PrecisionError::ManyLayers { layers: layers.len() });
        }
        let half = |(_, precision): &(String, Precision)| *precision == Precision::Fp16;
        if layers.iter().any(half) || default == Precision::Fp16 && !layers.is_empty() {
            return Err(PrecisionError::HalfOfLayers);
        }
        Ok(Self { layers, default })
    }

    pub(super) fn is_half(&self) -> bool {
        self.default == Precision::Fp16
    }

    /// What so many bytes of fp32 weights take at least, if all of them get the fewest bits that there are here.
    pub fn bytes_least(&self, bytes: u64) -> u64 {
        let all = self.layers.iter().map(|(_, precision)| *precision).chain([self.default]);
        all.map(|precision| precision.bytes_least(bytes)).min().expect("there is a default")
    }

    /// What the layer gets, known by its node's and its weight's name.
    pub(super) fn of(&self, node: &str, weight: &str) -> Precision {
        let layer =
            self.layers.iter().find(|(pattern, _)| matches(pattern, node) || matches(pattern, weight));
        layer.map_or(self.default, |(_, precision)| *precision)
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (pattern, precision) in &self.layers {
            write!(f, "{pattern}: {precision}; ")?;
        }
        write!(f, "{}", self.default)
    }
}

/// Whether the whole name is as the pattern, in which `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(start) else { return false };
    let mut parts: Vec<_> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    // The earliest place is as good as any: what follows has the more room.
    for part in parts {
        let Some(at) = name.find(part) else { return false };
        name = &name[at + part.len()..];
    }
    name.ends_with(end)
}
