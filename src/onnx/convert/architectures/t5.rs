//! Text to text: T5, and its encoder alone.
//!
//! As with Whisper, the encoder also gives the keys and values that the decoder looks at in it.

use super::{Builder, Checkpoint, Config, ConvertError, Draft, ModelKind, saved_as};
use crate::{
    domain::Dim,
    onnx::convert::graph::{Activation, Buckets, Graph, Heads, Module, Value, symbol},
};

/// The embedding's weights under further names, and a bias that the first models were saved with and never use.
pub(super) const LEAVES: &[&str] = &[
    "embed_tokens.weight",
    "lm_head.weight",
    "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
];

struct T5 {
    width: u64,
    heads: Heads,
    inner: u64,
    activation: Activation,
    gated: bool,
    epsilon: f64,
    buckets: Buckets,
    encoder_layers: u64,
    decoder_layers: u64,
    tokens: u64,
    tied: bool,
}

impl T5 {
    fn parse(config: &Config) -> Result<Self, ConvertError> {
        let feed = config.word("feed_forward_proj")?;
        let (gated, activation) = match feed.strip_prefix("gated-") {
            // What this name has meant since it was introduced.
            Some("gelu") => (true, Some(Activation::GeluTanh)),
            Some(other) => (true, Activation::named(other)),
            None => (false, Activation::named(feed)),
        };
        let encoder_layers = config.layers("num_layers")?;
        Ok(Self {
            width: config.size("d_model")?,
            heads: Heads::equal(config.size("num_heads")?, config.size("d_kv")?),
            inner: config.size("d_ff")?,
            activation: activation
                .ok_or_else(|| config.refuse("feed_forward_proj", "relu, gated-gelu, gated-silu"))?,
            gated,
            epsilon: config.number("layer_norm_epsilon")?,
            buckets: Buckets::parse(config, 128)?,
            encoder_layers,
            decoder_layers: config.layers_or("num_decoder_layers", encoder_layers)?,
            tokens: config.size("vocab_size")?,
            tied: config.flag_or("tie_word_embeddings", true)?,
        })
    }

    /// Of keys and values in the cache.
    fn cache(&self, length: &str) -> [Dim; 4] {
        [symbol("batch"), Dim::Fixed(self.heads.count), symbol(length), Dim::Fixed(self.heads.size)]
    }
}

pub(super) fn describe(config: &Config, checkpoint: &dyn Checkpoint) -> Result<Vec<Draft>, ConvertError> {
    let class = saved_as(config, &["ForConditionalGeneration", "WithLMHeadModel", "EncoderModel"])?;
    let t5 = T5::parse(config)?;
    let alone = class == "EncoderModel";
    let kind = if alone { ModelKind::Embedding } else { ModelKind::Generation };
    let mut drafts = vec![Draft { name: "encoder", kind, graph: encoder(&t5, alone, checkpoint)? }];
    if !alone {
        drafts.push(Draft { name: "decoder", kind, graph: decoder(&t5, checkpoint)? });
    }
    Ok(drafts)
}

fn encoder(t5: &T5, alone: bool, checkpoint: &dyn Checkpoint) -> Result<Graph, ConvertError> {
    let graph = Builder::new(checkpoint);
    let model = graph.module("");
    let root = model.sub("encoder");
    let (batch, sequence) = (symbol("batch"), symbol("encoder_sequence"));
    let input_ids = graph.integers("input_ids", &[batch.clone(), sequence.clone()]);
    let attention_mask = graph.integers("attention_mask", &[batch.clone(), sequence.clone()]);

    let mut x = model.embedding("shared", input_ids, t5.tokens, t5.width)?;
    let length = root.tokens(input_ids);
    let bias = t5.distance_bias(&root, t5.buckets, (length, length))?;
    let bias = root.add(bias, root.padding_mask(attention_mask));
    for block in 0..t5.encoder_layers {
        let at = root.sub(format!("block.{block}"));
        x = t5.own_attention(&at.sub("layer.0"), x, bias, None)?.0;
        x = t5.feed(&at.sub("layer.1"), x)?;
    }
    x = root.rms_norm("final_layer_norm", x, t5.width, t5.epsilon)?;
    graph.output("last_hidden_state", x, &[batch, sequence, Dim::Fixed(t5.width)]);

    for layer in 0..if alone { 0 } else { t5.decoder_layers } {
        let attention = model.sub(format!("decoder.block.{layer}.layer.1.EncDecAttention"));
        for (what, name) in [("key", "k"), ("value", "v")] {
            let heads = t5.split(&attention, name, x)?;
            graph.output(&format!("present.{layer}.encoder.{what}"), heads, &t5.cache("encoder_sequence"));
        }
    }
    Ok(graph.finish("encoder"))
}

fn decoder(t5: &T5, checkpoint: &dyn Checkpoint) -> Result<Graph, ConvertError> {
    let graph = Builder::new(checkpoint);
    let model = graph.module("");
    let root = model.sub("decoder");
    let (batch, sequence) = (symbol("batch"), symbol("sequence"));
    let input_ids = graph.integers("input_ids", &[batch.clone(), sequence.clone()]);
    let encoder_mask = graph.integers("encoder_attention_mask", &[batch.clone(), symbol("encoder_sequence")]);
    let pasts: Vec<_> = (0..t5.decoder_layers)
        .map(|layer| {
            let past = |what: &str, length: &str| {
                graph.floats(&format!("past_key_values.{layer}.{what}"), &t5.cache(length))
            };
            let own = (past("decoder.key", "past"), past("decoder.value", "past"));
            let seen = "encoder_sequence";
            (own, (past("encoder.key", seen), past("encoder.value", seen)))
        })
        .collect();

    let mut x = model.embedding("shared", input_ids, t5.tokens, t5.width)?;
    let total = root.total(input_ids, pasts[0].0.0);
    let buckets = Buckets { both_ways: false, ..t5.buckets };
    let bias = t5.distance_bias(&root, buckets, (root.tokens(input_ids), total))?;
    let bias = root.add(bias, root.causal_mask(input_ids, total));
    let encoder_mask = root.padding_mask(encoder_mask);
    let mut presents = Vec::new();
    for (layer, (own, seen)) in pasts.into_iter().enumerate() {
        let at = root.sub(format!("block.{layer}"));
        let present;
        (x, present) = t5.own_attention(&at.sub("layer.0"), x, bias, Some(own))?;
        x = t5.attention_across(&at.sub("layer.1"), x, encoder_mask, seen)?;
        x = t5.feed(&at.sub("layer.2"), x)?;
        presents.push(present);
    }
    x = root.rms_norm("final_layer_norm", x, t5.width, t5.epsilon)?;
    let logits = if t5.tied {
        let scaled = root.scale(x, 1.0 / (t5.width as f32).sqrt());
        model.tied("shared", scaled, t5.width, t5.tokens)?
    } else {
        model.project("lm_head", x, t5.width, t5.tokens)?
    };

    graph.output("logits", logits, &[batch, sequence, Dim::Fixed(t5.tokens)]);
    for (layer, (key, value)) in presents.into_iter().enumerate() {
        graph.output(&format!("present.{layer}.decoder.key"), key, &t5.cache("total"));
        graph.output(&format!("present.{layer}.decoder.value"), value, &t5.cache("total"));
    }
    Ok(graph.finish("decoder"))
}

type KeysAndValues = (Value, Value);

impl T5 {
    /// All layers share the bias of the first.
    fn distance_bias(
        &self,
        root: &Module<'_>,
        buckets: Buckets,
        lengths: (Value, Value),
    ) -> Result<Value, ConvertError> {
        let name = "block.0.layer.0.SelfAttention.relative_attention_bias";
        root.distance_bias(name, self.heads.count, buckets, lengths)
    }

    fn split(&self, at: &Module<'_>, name: &str, x: Value) -> Result<Value, ConvertError> {
        let projected = at.project(name, x, self.width, self.heads.width())?;
        Ok(at.split_heads(projected, self.heads.count, self.heads.size))
    }

    /// Scores are not scaled: the weights of queries are as small as that asks for.
    fn attend(
        &self,
        at: &Module<'_>,
        x: Value,
        query: Value,
        (keys, values): KeysAndValues,
        bias: Value,
    ) -> Result<Value, ConvertError> {
        let attended = at.attend((query, keys, values), Some(bias), self.heads, None);
        Ok(at.add(x, at.project("o", attended, self.heads.width(), self.width)?))
    }

    fn own_attention(
        &self,
        layer: &Module<'_>,
        x: Value,
        bias: Value,
        past: Option<KeysAndValues>,
    ) -> Result<(Value, KeysAndValues), ConvertError> {
        let at = layer.sub("SelfAttention");
        let normal = layer.rms_norm("layer_norm", x, self.width, self.epsilon)?;
        let query = self.split(&at, "q", normal)?;
        let (mut keys, mut values) = (self.split(&at, "k", normal)?, self.split(&at, "v", normal)?);
        if let Some(past) = past {
            keys = at.concat(&[past.0, keys], 2);
            values = at.concat(&[past.1, values], 2);
        }
        Ok((self.attend(&at, x, query, (keys, values), bias)?, (keys, values)))
    }

    fn attention_across(
        &self,
        layer: &Module<'_>,
        x: Value,
        mask: Value,
        seen: KeysAndValues,
    ) -> Result<Value, ConvertError> {
        let at = layer.sub("EncDecAttention");
        let normal = layer.rms_norm("layer_norm", x, self.width, self.epsilon)?;
        let query = self.split(&at, "q", normal)?;
        self.attend(&at, x, query, seen, mask)
    }

    fn feed(&self, layer: &Module<'_>, x: Value) -> Result<Value, ConvertError> {
        let at = layer.sub("DenseReluDense");
        let normal = layer.rms_norm("layer_norm", x, self.width, self.epsilon)?;
        let inner = |name| at.project(name, normal, self.width, self.inner);
        let hidden = if self.gated {
            at.multiply(at.activate(self.activation, inner("wi_0")?), inner("wi_1")?)
        } else {
            at.activate(self.activation, inner("wi")?)
        };
        Ok(layer.add(x, at.project("wo", hidden, self.inner, self.width)?))
    }
}
