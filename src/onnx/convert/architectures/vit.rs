//! Encoders of images by patches, and their classifiers: `ViT`.

use super::{
    Builder, Checkpoint, Config, ConvertError, Draft, ModelKind,
    block::{Block, Names, Order},
    prefix, saved_as,
};
use crate::{
    domain::Dim,
    onnx::convert::graph::{Activation, Heads, symbol},
};

/// What pretraining needs, and a pooler that a classifier goes without.
pub(super) const LEAVES: &[&str] =
    &["decoder.", "embeddings.mask_token", "pooler.dense.weight", "pooler.dense.bias"];

const NAMES: Names = Names {
    query: "attention.attention.query",
    key: "attention.attention.key",
    value: "attention.attention.value",
    out: "attention.output.dense",
    attention_norm: "layernorm_before",
    inner: "intermediate.dense",
    outer: "output.dense",
    outer_norm: "layernorm_after",
};

pub(super) fn describe(config: &Config, checkpoint: &dyn Checkpoint) -> Result<Vec<Draft>, ConvertError> {
    config.only("qkv_bias", true)?;
    let head = saved_as(config, &["Model", "ForImageClassification"])?;
    let width = config.size("hidden_size")?;
    let (count, size) = config.heads("num_attention_heads", width)?;
    let epsilon = config.number("layer_norm_eps")?;
    let (image, patch, channels) =
        (config.size("image_size")?, config.size("patch_size")?, config.size("num_channels")?);
    let block = Block {
        names: &NAMES,
        order: Order::NormFirst,
        width,
        heads: Heads::equal(count, size),
        inner: config.size("intermediate_size")?,
        activation: Activation::of(config, "hidden_act", None)?,
        epsilon,
        key_bias: true,
    };

    let graph = Builder::new(checkpoint);
    let root = graph.module(prefix(checkpoint, &["", "vit"], "embeddings.cls_token"));
    let batch = symbol("batch");
    let pixels = [batch.clone(), Dim::Fixed(channels), Dim::Fixed(image), Dim::Fixed(image)];
    let pixels = graph.floats("pixel_values", &pixels);

    let embeddings = root.sub("embeddings");
    let patches =
        embeddings.patches("patch_embeddings.projection", pixels, (channels, patch, width), true)?;
    let places = (image / patch).pow(2) + 1;
    let x = embeddings.prepend(embeddings.weight("cls_token", &[1, 1, width])?, patches, width);
    let mut x = embeddings.add(x, embeddings.weight("position_embeddings", &[1, places, width])?);
    for layer in 0..config.layers("num_hidden_layers")? {
        x = block.apply(&root.sub(format!("encoder.layer.{layer}")), x, None)?;
    }
    x = root.layer_norm("layernorm", x, width, epsilon)?;

    if head == "ForImageClassification" {
        let labels = config.labels()?;
        let logits = graph.module("").linear("classifier", root.pick(x, 1, 0), width, labels)?;
        graph.output("logits", logits, &[batch, Dim::Fixed(labels)]);
    } else {
        graph.output("last_hidden_state", x, &[batch.clone(), Dim::Fixed(places), Dim::Fixed(width)]);
        if root.has("pooler.dense.weight") {
            let pooled = root.tanh(root.linear("pooler.dense", root.pick(x, 1, 0), width, width)?);
            graph.output("pooler_output", pooled, &[batch, Dim::Fixed(width)]);
        }
    }
    Ok(vec![Draft { name: "model", kind: ModelKind::Vision, graph: graph.finish("model") }])
}
