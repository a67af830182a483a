//! Layers with weights, under the names that their originals give them.

use super::{Attribute, Module, Source, Value};
use crate::onnx::convert::{ConvertError, config::Config};

/// Between two linear layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::onnx::convert) enum Activation {
    /// By the error function.
    Gelu,
    GeluTanh,
    QuickGelu,
    Silu,
    Relu,
}

impl Activation {
    const NAMES: [(&'static str, Self); 8] = [
        ("gelu", Self::Gelu),
        ("gelu_new", Self::GeluTanh),
        ("gelu_pytorch_tanh", Self::GeluTanh),
        ("gelu_fast", Self::GeluTanh),
        ("quick_gelu", Self::QuickGelu),
        ("silu", Self::Silu),
        ("swish", Self::Silu),
        ("relu", Self::Relu),
    ];

    pub(in crate::onnx::convert) fn of(
        config: &Config,
        key: &str,
        absent: Option<&str>,
    ) -> Result<Self, ConvertError> {
        let name = match absent {
            Some(absent) => config.word_or(key, absent)?,
            None => config.word(key)?,
        };
        Self::named(name).ok_or_else(|| config.refuse(key, Self::NAMES.map(|(name, _)| name).join(", ")))
    }

    pub(in crate::onnx::convert) fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, activation)| *activation)
    }
}

/// A convolution over a line or an image.
pub(in crate::onnx::convert) struct Conv<'a> {
    /// Channels out, channels in per group, and the kernel's sizes.
    pub(in crate::onnx::convert) shape: &'a [u64],
    pub(in crate::onnx::convert) stride: u64,
    /// On either side of every axis.
    pub(in crate::onnx::convert) padding: u64,
    pub(in crate::onnx::convert) bias: bool,
}

fn int(size: u64) -> i64 {
    i64::try_from(size).expect("sizes are bounded")
}

impl Module<'_> {
    /// A linear layer with its bias.
    pub(in crate::onnx::convert) fn linear(
        &self,
        name: &str,
        x: Value,
        from: u64,
        to: u64,
    ) -> Result<Value, ConvertError> {
        let product = self.project(name, x, from, to)?;
        let layer = self.sub(name);
        Ok(layer.add(product, layer.weight("bias", &[to])?))
    }

    /// A linear layer without a bias.
    pub(in crate::onnx::convert) fn project(
        &self,
        name: &str,
        x: Value,
        from: u64,
        to: u64,
    ) -> Result<Value, ConvertError> {
        let layer = self.sub(name);
        Ok(layer.matmul(x, layer.transposed("weight", to, from)?))
    }

    /// Scores of all tokens, by the weights of an embedding, which stay as they are and are stored once.
    pub(in crate::onnx::convert) fn tied(
        &self,
        name: &str,
        x: Value,
        width: u64,
        tokens: u64,
    ) -> Result<Value, ConvertError> {
        let weight = self.weight(&format!("{name}.weight"), &[tokens, width])?;
        let rows = self.reshape(x, &[-1, int(width)]);
        let scores = self.node("Gemm", &[rows, weight], &[("transB", Attribute::Int(1))]);
        let batch = self.concat(&[self.length(x, 0), self.length(x, 1), self.list(&[int(tokens)])], 0);
        Ok(self.node("Reshape", &[scores, batch], &[]))
    }

    pub(in crate::onnx::convert) fn embedding(
        &self,
        name: &str,
        indices: Value,
        rows: u64,
        width: u64,
    ) -> Result<Value, ConvertError> {
        let layer = self.sub(name);
        Ok(layer.gather(layer.weight("weight", &[rows, width])?, indices, 0))
    }

    pub(in crate::onnx::convert) fn layer_norm(
        &self,
        name: &str,
        x: Value,
        width: u64,
        epsilon: f64,
    ) -> Result<Value, ConvertError> {
        let layer = self.sub(name);
        let inputs = [x, layer.weight("weight", &[width])?, layer.weight("bias", &[width])?];
        let attributes = [("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(epsilon as f32))];
        Ok(layer.node("LayerNormalization", &inputs, &attributes))
    }

    /// In the form that engines know and fuse.
    pub(in crate::onnx::convert) fn rms_norm(
        &self,
        name: &str,
        x: Value,
        width: u64,
        epsilon: f64,
    ) -> Result<Value, ConvertError> {
        let layer = self.sub(name);
        let squares = layer.node("Pow", &[x, layer.float(2.0)], &[]);
        let mean = layer.add(layer.mean(squares, -1), layer.float(epsilon as f32));
        let normal = layer.divide(x, layer.node("Sqrt", &[mean], &[]));
        Ok(layer.multiply(normal, layer.weight("weight", &[width])?))
    }

    pub(in crate::onnx::convert) fn conv(
        &self,
        name: &str,
        x: Value,
        conv: &Conv<'_>,
    ) -> Result<Value, ConvertError> {
        let layer = self.sub(name);
        let mut inputs = vec![x, layer.weight("weight", conv.shape)?];
        if conv.bias {
            inputs.push(layer.weight("bias", &conv.shape[..1])?);
        }
        let axes = conv.shape.len() - 2;
        let attributes = [
            ("strides", Attribute::Ints(vec![int(conv.stride); axes])),
            ("pads", Attribute::Ints(vec![int(conv.padding); 2 * axes])),
        ];
        Ok(layer.node("Conv", &inputs, &attributes))
    }

    /// Squares of an image, `size` pixels wide, as a line of vectors.
    pub(in crate::onnx::convert) fn patches(
        &self,
        name: &str,
        pixels: Value,
        (channels, size, width): (u64, u64, u64),
        bias: bool,
    ) -> Result<Value, ConvertError> {
        let conv = Conv { shape: &[width, channels, size, size], stride: size, padding: 0, bias };
        let layer = self.sub(name);
        let map = layer.conv("", pixels, &conv)?;
        Ok(layer.transpose(layer.reshape(map, &[0, int(width), -1]), &[0, 2, 1]))
    }

    /// Puts the same vector before every line of a batch.
    pub(in crate::onnx::convert) fn prepend(&self, vector: Value, x: Value, width: u64) -> Value {
        let shape = self.concat(&[self.length(x, 0), self.list(&[1, int(width)])], 0);
        self.concat(&[self.node("Expand", &[vector, shape], &[]), x], 1)
    }

    /// A convolution in groups whose weight is stored as magnitude and direction, under either of their names.
    pub(in crate::onnx::convert) fn normed_conv(
        &self,
        name: &str,
        x: Value,
        shape: [u64; 3],
        groups: u64,
    ) -> Result<Value, ConvertError> {
        let layer = self.sub(name);
        let (magnitude, direction) = if layer.has("weight_g") {
            ("weight_g", "weight_v")
        } else {
            ("parametrizations.weight.original0", "parametrizations.weight.original1")
        };
        let magnitude = layer.stored(magnitude, &[1, 1, shape[2]])?;
        let direction = layer.stored(direction, &shape)?;
        let weight = layer.place(&layer.at("weight"), &shape, Source::Normed { magnitude, direction });
        let half = int(shape[2] / 2);
        let attributes =
            [("group", Attribute::Int(int(groups))), ("pads", Attribute::Ints(vec![half, half]))];
        Ok(layer.node("Conv", &[x, weight, layer.weight("bias", &shape[..1])?], &attributes))
    }

    /// Every channel of a line brought to mean 0 and variance 1 over the line.
    pub(in crate::onnx::convert) fn channel_norm(
        &self,
        name: &str,
        x: Value,
        channels: u64,
        epsilon: f64,
    ) -> Result<Value, ConvertError> {
        let layer = self.sub(name);
        let inputs = [x, layer.weight("weight", &[channels])?, layer.weight("bias", &[channels])?];
        Ok(layer.node("InstanceNormalization", &inputs, &[("epsilon", Attribute::Float(epsilon as f32))]))
    }

    pub(in crate::onnx::convert) fn activate(&self, activation: Activation, x: Value) -> Value {
        match activation {
            Activation::Gelu => {
                let inner = self.divide(x, self.float(std::f32::consts::SQRT_2));
                let weight = self.add(self.node("Erf", &[inner], &[]), self.float(1.0));
                self.scale(self.multiply(x, weight), 0.5)
            }
            Activation::GeluTanh => {
                let cube = self.multiply(self.multiply(x, x), x);
                let inner = self.add(x, self.scale(cube, 0.044_715));
                let root = (2.0 / std::f32::consts::PI).sqrt();
                let weight = self.add(self.tanh(self.scale(inner, root)), self.float(1.0));
                self.scale(self.multiply(x, weight), 0.5)
            }
            Activation::QuickGelu => self.multiply(x, self.sigmoid(self.scale(x, 1.702))),
            Activation::Silu => self.multiply(x, self.sigmoid(x)),
            Activation::Relu => self.node("Relu", &[x], &[]),
        }
    }
}
