//! Speech to text: Whisper.
//!
//! The encoder also gives the keys and values that the decoder's layers look at in it, so that they are computed once for
//! a recording, and the decoder is one graph without branches.

use super::{
    Builder, Checkpoint, Config, ConvertError, Draft, ModelKind,
    block::{Block, Names, Order},
    prefix, saved_as,
};
use crate::{
    domain::Dim,
    onnx::convert::graph::{Activation, Conv, Graph, Heads, Module, Value, symbol},
};

/// The scores' weights, which are the embedding's.
pub(super) const LEAVES: &[&str] = &["proj_out.weight"];

/// The usual one, which is no setting here.
const EPSILON: f64 = 1e-5;

const NAMES: Names = Names {
    query: "self_attn.q_proj",
    key: "self_attn.k_proj",
    value: "self_attn.v_proj",
    out: "self_attn.out_proj",
    attention_norm: "self_attn_layer_norm",
    inner: "fc1",
    outer: "fc2",
    outer_norm: "final_layer_norm",
};

struct Whisper {
    prefix: &'static str,
    width: u64,
    activation: Activation,
    channels: u64,
    /// After the second convolution, which halves them.
    frames: u64,
    encoder_layers: u64,
    encoder: Heads,
    encoder_inner: u64,
    decoder_layers: u64,
    decoder: Heads,
    decoder_inner: u64,
    tokens: u64,
    positions: u64,
}

impl Whisper {
    fn parse(config: &Config, checkpoint: &dyn Checkpoint) -> Result<Self, ConvertError> {
        saved_as(config, &["ForConditionalGeneration", "WhisperModel"])?;
        config.only("scale_embedding", false)?;
        config.only("tie_word_embeddings", true)?;
        let width = config.size("d_model")?;
        let heads = |key| config.heads(key, width).map(|(count, size)| Heads::equal(count, size));
        Ok(Self {
            prefix: prefix(checkpoint, &["model", ""], "encoder.conv1.weight"),
            width,
            activation: Activation::of(config, "activation_function", None)?,
            channels: config.size("num_mel_bins")?,
            frames: config.size("max_source_positions")?,
            encoder_layers: config.layers("encoder_layers")?,
            encoder: heads("encoder_attention_heads")?,
            encoder_inner: config.size("encoder_ffn_dim")?,
            decoder_layers: config.layers("decoder_layers")?,
            decoder: heads("decoder_attention_heads")?,
            decoder_inner: config.size("decoder_ffn_dim")?,
            tokens: config.size("vocab_size")?,
            positions: config.size("max_target_positions")?,
        })
    }

    /// Of keys and values in the cache.
    fn cache(&self, length: Dim) -> [Dim; 4] {
        [symbol("batch"), Dim::Fixed(self.decoder.count), length, Dim::Fixed(self.decoder.size)]
    }
}

pub(super) fn describe(config: &Config, checkpoint: &dyn Checkpoint) -> Result<Vec<Draft>, ConvertError> {
    let whisper = Whisper::parse(config, checkpoint)?;
    Ok(vec![
        Draft { name: "encoder", kind: ModelKind::Audio, graph: encoder(&whisper, checkpoint)? },
        Draft { name: "decoder", kind: ModelKind::Audio, graph: decoder(&whisper, checkpoint)? },
    ])
}

fn encoder(whisper: &Whisper, checkpoint: &dyn Checkpoint) -> Result<Graph, ConvertError> {
    let Whisper { width, activation, channels, frames, .. } = *whisper;
    let block = Block {
        names: &NAMES,
        order: Order::NormFirst,
        width,
        heads: whisper.encoder,
        inner: whisper.encoder_inner,
        activation,
        epsilon: EPSILON,
        key_bias: false,
    };
    let graph = Builder::new(checkpoint);
    let model = graph.module(whisper.prefix);
    let root = model.sub("encoder");
    let features = [symbol("batch"), Dim::Fixed(channels), Dim::Fixed(2 * frames)];
    let features = graph.floats("input_features", &features);

    let conv = |from: u64, stride: u64| ([width, from, 3], stride);
    let mut x = features;
    for (name, (shape, stride)) in [("conv1", conv(channels, 1)), ("conv2", conv(width, 2))] {
        let conv = Conv { shape: &shape, stride, padding: 1, bias: true };
        x = root.activate(Activation::Gelu, root.conv(name, x, &conv)?);
    }
    let positions = root.weight("embed_positions.weight", &[frames, width])?;
    x = root.add(root.transpose(x, &[0, 2, 1]), positions);
    for layer in 0..whisper.encoder_layers {
        x = block.apply(&root.sub(format!("layers.{layer}")), x, None)?;
    }
    x = root.layer_norm("layer_norm", x, width, EPSILON)?;
    graph.output("last_hidden_state", x, &[symbol("batch"), Dim::Fixed(frames), Dim::Fixed(width)]);

    for layer in 0..whisper.decoder_layers {
        let attention = model.sub(format!("decoder.layers.{layer}.encoder_attn"));
        let split = |x| attention.split_heads(x, whisper.decoder.count, whisper.decoder.size);
        let key = split(attention.project("k_proj", x, width, width)?);
        let value = split(attention.linear("v_proj", x, width, width)?);
        let dims = whisper.cache(Dim::Fixed(frames));
        graph.output(&format!("present.{layer}.encoder.key"), key, &dims);
        graph.output(&format!("present.{layer}.encoder.value"), value, &dims);
    }
    Ok(graph.finish("encoder"))
}

fn decoder(whisper: &Whisper, checkpoint: &dyn Checkpoint) -> Result<Graph, ConvertError> {
    let graph = Builder::new(checkpoint);
    let root = graph.module(whisper.prefix).sub("decoder");
    let input_ids = graph.integers("input_ids", &[symbol("batch"), symbol("sequence")]);
    let pasts: Vec<_> = (0..whisper.decoder_layers)
        .map(|layer| {
            let past = |what: &str, length: Dim| {
                graph.floats(&format!("past_key_values.{layer}.{what}"), &whisper.cache(length))
            };
            let own = (past("decoder.key", symbol("past")), past("decoder.value", symbol("past")));
            let frames = || Dim::Fixed(whisper.frames);
            (own, (past("encoder.key", frames()), past("encoder.value", frames())))
        })
        .collect();

    let total = root.total(input_ids, pasts[0].0.0);
    let places = root.positions(root.tokens(input_ids), total);
    let words = root.embedding("embed_tokens", input_ids, whisper.tokens, whisper.width)?;
    let mut x = root.add(words, root.embedding("embed_positions", places, whisper.positions, whisper.width)?);
    let mask = root.causal_mask(input_ids, total);
    let mut presents = Vec::new();
    for (layer, past) in pasts.into_iter().enumerate() {
        let present;
        (x, present) = whisper.layer(&root.sub(format!("layers.{layer}")), x, mask, past)?;
        presents.push(present);
    }
    x = root.layer_norm("layer_norm", x, whisper.width, EPSILON)?;
    let logits = root.tied("embed_tokens", x, whisper.width, whisper.tokens)?;

    graph.output("logits", logits, &[symbol("batch"), symbol("sequence"), Dim::Fixed(whisper.tokens)]);
    for (layer, (key, value)) in presents.into_iter().enumerate() {
        let dims = whisper.cache(symbol("total"));
        graph.output(&format!("present.{layer}.decoder.key"), key, &dims);
        graph.output(&format!("present.{layer}.decoder.value"), value, &dims);
    }
    Ok(graph.finish("decoder"))
}

type KeysAndValues = (Value, Value);

impl Whisper {
    /// A decoder's layer: its answer, and its own keys and values with those of the cache.
    fn layer(
        &self,
        at: &Module<'_>,
        x: Value,
        mask: Value,
        (past, seen): (KeysAndValues, KeysAndValues),
    ) -> Result<(Value, KeysAndValues), ConvertError> {
        let width = self.width;
        let norm = |name: &str, x| at.layer_norm(name, x, width, EPSILON);
        let split = |x| at.split_heads(x, self.decoder.count, self.decoder.size);
        let attend = |of: &Module<'_>, query, (keys, values), mask| {
            let attended = of.attend((query, keys, values), mask, self.decoder, Some(self.decoder.scale()));
            of.linear("out_proj", attended, width, width)
        };

        let own = at.sub("self_attn");
        let normal = norm("self_attn_layer_norm", x)?;
        let query = split(own.linear("q_proj", normal, width, width)?);
        let keys = own.concat(&[past.0, split(own.project("k_proj", normal, width, width)?)], 2);
        let values = own.concat(&[past.1, split(own.linear("v_proj", normal, width, width)?)], 2);
        let x = at.add(x, attend(&own, query, (keys, values), Some(mask))?);

        let across = at.sub("encoder_attn");
        let normal = norm("encoder_attn_layer_norm", x)?;
        let query = split(across.linear("q_proj", normal, width, width)?);
        let x = at.add(x, attend(&across, query, seen, None)?);

        let inner = at.linear("fc1", norm("final_layer_norm", x)?, width, self.decoder_inner)?;
        let fed = at.linear("fc2", at.activate(self.activation, inner), self.decoder_inner, width)?;
        Ok((at.add(x, fed), (keys, values)))
    }
}
