//! Decoders of text with rotated heads and a gated inner layer: Llama, Mistral and Qwen2.

use super::{Builder, Checkpoint, Config, ConvertError, Draft, ModelKind, prefix, saved_as};
use crate::{
    domain::Dim,
    onnx::convert::graph::{Activation, Heads, Module, Rotation, Value, symbol},
};

/// Buffers of older files, and scores that are stored again though they are the embedding's weights.
pub(super) const LEAVES: &[&str] = &[".rotary_emb.inv_freq", "lm_head.weight"];

struct Decoder {
    width: u64,
    layers: u64,
    heads: Heads,
    inner: u64,
    activation: Activation,
    epsilon: f64,
    tokens: u64,
    /// Whether queries, keys and values have biases.
    bias: bool,
    /// Whether the embedding's weights score the tokens too.
    tied: bool,
    positions: u64,
    frequencies: Vec<f32>,
}

impl Decoder {
    fn parse(config: &Config) -> Result<Self, ConvertError> {
        let model_type = config.word("model_type")?;
        config.only("attention_bias", false)?;
        config.only("mlp_bias", false)?;
        config.only("partial_rotary_factor", 1.0)?;
        config.only("use_sliding_window", false)?;
        if model_type == "mistral" {
            config.without("sliding_window")?;
        }
        saved_as(config, &["ForCausalLM"])?;
        let width = config.size("hidden_size")?;
        let count = config.size("num_attention_heads")?;
        let size = if config.has("head_dim") {
            config.size("head_dim")?
        } else {
            config.heads("num_attention_heads", width)?.1
        };
        let shared = config.size_or("num_key_value_heads", count)?;
        if !count.is_multiple_of(shared) {
            return Err(config.refuse("num_key_value_heads", format!("a divisor of {count}")));
        }
        if !size.is_multiple_of(2) {
            return Err(config.refuse("head_dim", "an even number"));
        }
        Ok(Self {
            width,
            layers: config.layers("num_hidden_layers")?,
            heads: Heads { count, shared, size },
            inner: config.size("intermediate_size")?,
            activation: Activation::of(config, "hidden_act", None)?,
            epsilon: config.number("rms_norm_eps")?,
            tokens: config.size("vocab_size")?,
            bias: model_type == "qwen2",
            tied: config.flag_or("tie_word_embeddings", false)?,
            positions: config.size("max_position_embeddings")?,
            frequencies: frequencies(config, size)?,
        })
    }
}

/// How fast each pair of a head's numbers turns with the position.
fn frequencies(config: &Config, size: u64) -> Result<Vec<f32>, ConvertError> {
    // Files older than the setting mean this base.
    let base = config.number_or("rope_theta", 10_000.0)?;
    let plain = (0..size / 2).map(|pair| base.powf(-((2 * pair) as f64) / size as f64));
    if !config.has("rope_scaling") {
        return Ok(plain.map(|frequency| frequency as f32).collect());
    }
    let scaling = config.part("rope_scaling")?;
    let key = if scaling.has("rope_type") { "rope_type" } else { "type" };
    let factor = || scaling.number("factor");
    let scaled: Vec<f64> = match scaling.word(key)? {
        "default" => plain.collect(),
        "linear" => {
            let factor = factor()?;
            plain.map(|frequency| frequency / factor).collect()
        }
        "llama3" => {
            let (factor, low, high) =
                (factor()?, scaling.number("low_freq_factor")?, scaling.number("high_freq_factor")?);
            let original = scaling.size("original_max_position_embeddings")? as f64;
            if low >= high {
                return Err(scaling.refuse("high_freq_factor", "more than low_freq_factor"));
            }
            let scale = |frequency: f64| {
                let turns = original * frequency / std::f64::consts::TAU;
                // Fast ones stay, slow ones are slowed, those between are mixed.
                let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                frequency * (kept + (1.0 - kept) / factor)
            };
            plain.map(scale).collect()
        }
        _ => return Err(scaling.refuse(key, "default, linear, llama3")),
    };
    Ok(scaled.into_iter().map(|frequency| frequency as f32).collect())
}

pub(super) fn describe(config: &Config, checkpoint: &dyn Checkpoint) -> Result<Vec<Draft>, ConvertError> {
    let decoder = Decoder::parse(config)?;
    let graph = Builder::new(checkpoint);
    let root = graph.module(prefix(checkpoint, &["model", ""], "embed_tokens.weight"));
    let (batch, sequence) = (symbol("batch"), symbol("sequence"));
    let text = [batch.clone(), sequence.clone()];
    let input_ids = graph.integers("input_ids", &text);
    let attention_mask = graph.integers("attention_mask", &[batch.clone(), symbol("total")]);
    let position_ids = graph.integers("position_ids", &text);
    let cache = |length: &str| {
        [batch.clone(), Dim::Fixed(decoder.heads.shared), symbol(length), Dim::Fixed(decoder.heads.size)]
    };

    let mask = root.causal_padding_mask(input_ids, attention_mask);
    let rotation = root.sub("rotary_emb").rotation(position_ids, decoder.positions, &decoder.frequencies);
    let mut x = root.embedding("embed_tokens", input_ids, decoder.tokens, decoder.width)?;
    let mut presents = Vec::new();
    for layer in 0..decoder.layers {
        let past = |what: &str| graph.floats(&format!("past_key_values.{layer}.{what}"), &cache("past"));
        let past = (past("key"), past("value"));
        let present;
        (x, present) = decoder.layer(&root.sub(format!("layers.{layer}")), x, mask, rotation, past)?;
        presents.push(present);
    }
    x = root.rms_norm("norm", x, decoder.width, decoder.epsilon)?;
    let logits = if decoder.tied {
        root.tied("embed_tokens", x, decoder.width, decoder.tokens)?
    } else {
        graph.module("").project("lm_head", x, decoder.width, decoder.tokens)?
    };

    graph.output("logits", logits, &[batch.clone(), sequence, Dim::Fixed(decoder.tokens)]);
    for (layer, (key, value)) in presents.into_iter().enumerate() {
        graph.output(&format!("present.{layer}.key"), key, &cache("total"));
        graph.output(&format!("present.{layer}.value"), value, &cache("total"));
    }
    Ok(vec![Draft { name: "model", kind: ModelKind::Generation, graph: graph.finish("model") }])
}

impl Decoder {
    /// The layer's answer, and its keys and values with those of the cache.
    fn layer(
        &self,
        at: &Module<'_>,
        x: Value,
        mask: Value,
        rotation: Rotation,
        past: (Value, Value),
    ) -> Result<(Value, (Value, Value)), ConvertError> {
        let Heads { count, shared, size } = self.heads;
        let normal = at.rms_norm("input_layernorm", x, self.width, self.epsilon)?;
        let attention = at.sub("self_attn");
        let heads = |name: &str, heads: u64| {
            let projected = if self.bias {
                attention.linear(name, normal, self.width, heads * size)?
            } else {
                attention.project(name, normal, self.width, heads * size)?
            };
            Ok::<_, ConvertError>(attention.split_heads(projected, heads, size))
        };
        let queries = attention.rotate(heads("q_proj", count)?, size, rotation);
        let keys = attention.rotate(heads("k_proj", shared)?, size, rotation);
        let keys = attention.concat(&[past.0, keys], 2);
        let values = attention.concat(&[past.1, heads("v_proj", shared)?], 2);
        let attended =
            attention.attend((queries, keys, values), Some(mask), self.heads, Some(self.heads.scale()));
        let x = at.add(x, attention.project("o_proj", attended, self.heads.width(), self.width)?);

        let normal = at.rms_norm("post_attention_layernorm", x, self.width, self.epsilon)?;
        let inner = at.sub("mlp");
        let gate =
            inner.activate(self.activation, inner.project("gate_proj", normal, self.width, self.inner)?);
        let gated = inner.multiply(gate, inner.project("up_proj", normal, self.width, self.inner)?);
        let fed = inner.project("down_proj", gated, self.inner, self.width)?;
        Ok((at.add(x, fed), (keys, values)))
    }
}
