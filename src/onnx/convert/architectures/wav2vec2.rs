//! Encoders of sound as it is sampled, and their transcribers: `Wav2Vec2`.

use super::{
    Builder, Checkpoint, Config, ConvertError, Draft, ModelKind,
    block::{Block, Names, Order},
    prefix, saved_as,
};
use crate::{
    domain::Dim,
    onnx::convert::graph::{Activation, Conv, Heads, Module, Value, symbol},
};

/// What pretraining needs.
pub(super) const LEAVES: &[&str] = &["masked_spec_embed", "quantizer.", "project_q.", "project_hid."];

const NAMES: Names = Names {
    query: "attention.q_proj",
    key: "attention.k_proj",
    value: "attention.v_proj",
    out: "attention.out_proj",
    attention_norm: "layer_norm",
    inner: "feed_forward.intermediate_dense",
    outer: "feed_forward.output_dense",
    outer_norm: "final_layer_norm",
};

/// The usual one, which the convolutions' norms have.
const EPSILON: f64 = 1e-5;

pub(super) fn describe(config: &Config, checkpoint: &dyn Checkpoint) -> Result<Vec<Draft>, ConvertError> {
    config.only("add_adapter", false)?;
    config.without("adapter_attn_dim")?;
    let head = saved_as(config, &["Model", "ForPreTraining", "ForCTC"])?;
    let width = config.size("hidden_size")?;
    let (count, size) = config.heads("num_attention_heads", width)?;
    let epsilon = config.number("layer_norm_eps")?;
    let order =
        if config.flag_or("do_stable_layer_norm", false)? { Order::NormFirst } else { Order::NormLast };
    let block = Block {
        names: &NAMES,
        order,
        width,
        heads: Heads::equal(count, size),
        inner: config.size("intermediate_size")?,
        activation: Activation::of(config, "hidden_act", None)?,
        epsilon,
        key_bias: true,
    };

    let graph = Builder::new(checkpoint);
    let probe = "feature_projection.layer_norm.weight";
    let root = graph.module(prefix(checkpoint, &["", "wav2vec2"], probe));
    let batch = symbol("batch");
    let sound = graph.floats("input_values", &[batch.clone(), symbol("samples")]);
    let (features, channels) = features(config, &root.sub("feature_extractor"), sound)?;

    let at = root.sub("feature_projection");
    let normal = at.layer_norm("layer_norm", features, channels, epsilon)?;
    let mut x = at.linear("projection", normal, channels, width)?;
    let encoder = root.sub("encoder");
    x = encoder.add(x, positions(config, &encoder, x, width)?);
    if order == Order::NormLast {
        x = encoder.layer_norm("layer_norm", x, width, epsilon)?;
    }
    for layer in 0..config.layers("num_hidden_layers")? {
        x = block.apply(&encoder.sub(format!("layers.{layer}")), x, None)?;
    }
    if order == Order::NormFirst {
        x = encoder.layer_norm("layer_norm", x, width, epsilon)?;
    }

    let frames = symbol("frames");
    if head == "ForCTC" {
        let tokens = config.size("vocab_size")?;
        let logits = graph.module("").linear("lm_head", x, width, tokens)?;
        graph.output("logits", logits, &[batch, frames, Dim::Fixed(tokens)]);
    } else {
        graph.output("last_hidden_state", x, &[batch, frames, Dim::Fixed(width)]);
    }
    Ok(vec![Draft { name: "model", kind: ModelKind::Audio, graph: graph.finish("model") }])
}

/// From samples to frames, and how many channels those have.
fn features(config: &Config, at: &Module<'_>, sound: Value) -> Result<(Value, u64), ConvertError> {
    let (dims, kernels, strides) =
        (config.sizes("conv_dim")?, config.sizes("conv_kernel")?, config.sizes("conv_stride")?);
    if dims.is_empty() || dims.len() != kernels.len() || dims.len() != strides.len() {
        return Err(config.refuse("conv_kernel", "one for each of conv_dim and conv_stride, at least one"));
    }
    let by_layer = match config.word("feat_extract_norm")? {
        "layer" => true,
        "group" => false,
        _ => return Err(config.refuse("feat_extract_norm", "layer, group")),
    };
    let activation = Activation::of(config, "feat_extract_activation", None)?;
    let bias = config.flag_or("conv_bias", false)?;
    let (mut x, mut channels) = (at.unsqueeze(sound, &[1]), 1);
    for (layer, ((to, kernel), stride)) in dims.into_iter().zip(kernels).zip(strides).enumerate() {
        let at = at.sub(format!("conv_layers.{layer}"));
        x = at.conv("conv", x, &Conv { shape: &[to, channels, kernel], stride, padding: 0, bias })?;
        if by_layer {
            let normal = at.layer_norm("layer_norm", at.transpose(x, &[0, 2, 1]), to, EPSILON)?;
            x = at.transpose(normal, &[0, 2, 1]);
        } else if layer == 0 {
            x = at.channel_norm("layer_norm", x, to, EPSILON)?;
        }
        x = at.activate(activation, x);
        channels = to;
    }
    Ok((at.transpose(x, &[0, 2, 1]), channels))
}

/// What is added for where a frame stands: a wide convolution over its neighbours.
fn positions(config: &Config, at: &Module<'_>, x: Value, width: u64) -> Result<Value, ConvertError> {
    let kernel = config.size("num_conv_pos_embeddings")?;
    let groups = config.size("num_conv_pos_embedding_groups")?;
    if !width.is_multiple_of(groups) {
        return Err(config.refuse("num_conv_pos_embedding_groups", format!("a divisor of {width}")));
    }
    let activation = Activation::of(config, "feat_extract_activation", None)?;
    let at = at.sub("pos_conv_embed");
    let shape = [width, width / groups, kernel];
    let mut places = at.normed_conv("conv", at.transpose(x, &[0, 2, 1]), shape, groups)?;
    if kernel.is_multiple_of(2) {
        // With an even kernel padding gives one frame too many.
        places = at.slice(places, 2, 0, -1);
    }
    Ok(at.transpose(at.activate(activation, places), &[0, 2, 1]))
}
