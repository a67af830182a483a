//! Two towers into one space, of text and of images: CLIP. What they give is not normalised.

use super::{
    Builder, Checkpoint, Config, ConvertError, Draft, ModelKind,
    block::{Block, Names, Order},
};
use crate::{
    domain::Dim,
    onnx::convert::graph::{Activation, Graph, Heads, symbol},
};

/// Buffers, and what similarities are multiplied with by whoever compares.
pub(super) const LEAVES: &[&str] = &["logit_scale", ".embeddings.position_ids"];

const NAMES: Names = Names {
    query: "self_attn.q_proj",
    key: "self_attn.k_proj",
    value: "self_attn.v_proj",
    out: "self_attn.out_proj",
    attention_norm: "layer_norm1",
    inner: "mlp.fc1",
    outer: "mlp.fc2",
    outer_norm: "layer_norm2",
};

/// What the format means where a tower leaves something out.
struct Usual {
    width: u64,
    heads: u64,
    inner: u64,
}

const TEXT: Usual = Usual { width: 512, heads: 8, inner: 2048 };
const VISION: Usual = Usual { width: 768, heads: 12, inner: 3072 };

/// By this number of the end old files mean the largest number of a text, which is the end's in their vocabulary.
const EOS_OF_OLD_FILES: u64 = 2;

struct Tower {
    config: Config,
    layers: u64,
    block: Block,
    projection: u64,
}

impl Tower {
    fn parse(config: &Config, key: &str, usual: &Usual) -> Result<Self, ConvertError> {
        // Where a file has both, the longer name counts.
        let longer = format!("{key}_dict");
        let tower = config.part(if config.has(&longer) { &longer } else { key })?;
        let width = tower.size_or("hidden_size", usual.width)?;
        let (count, size) = tower.heads_or("num_attention_heads", usual.heads, width)?;
        let block = Block {
            names: &NAMES,
            order: Order::NormFirst,
            width,
            heads: Heads::equal(count, size),
            inner: tower.size_or("intermediate_size", usual.inner)?,
            activation: Activation::of(&tower, "hidden_act", Some("quick_gelu"))?,
            epsilon: tower.number_or("layer_norm_eps", 1e-5)?,
            key_bias: true,
        };
        let layers = tower.layers_or("num_hidden_layers", 12)?;
        Ok(Self { config: tower, layers, block, projection: config.size_or("projection_dim", 512)? })
    }
}

pub(super) fn describe(config: &Config, checkpoint: &dyn Checkpoint) -> Result<Vec<Draft>, ConvertError> {
    super::saved_as(config, &["CLIPModel"])?;
    let text = text(&Tower::parse(config, "text_config", &TEXT)?, checkpoint)?;
    let vision = vision(&Tower::parse(config, "vision_config", &VISION)?, checkpoint)?;
    Ok(vec![
        Draft { name: "text", kind: ModelKind::Multimodal, graph: text },
        Draft { name: "vision", kind: ModelKind::Multimodal, graph: vision },
    ])
}

fn text(tower: &Tower, checkpoint: &dyn Checkpoint) -> Result<Graph, ConvertError> {
    let Tower { config, layers, block, projection } = tower;
    let graph = Builder::new(checkpoint);
    let root = graph.module("text_model");
    let (batch, sequence) = (symbol("batch"), symbol("sequence"));
    let input_ids = graph.integers("input_ids", &[batch.clone(), sequence.clone()]);
    let attention_mask = graph.integers("attention_mask", &[batch.clone(), sequence]);

    let at = root.sub("embeddings");
    let tokens = config.size_or("vocab_size", 49_408)?;
    let places = config.size_or("max_position_embeddings", 77)?;
    let positions = at.weight("position_embedding.weight", &[places, block.width])?;
    let positions = at.first(positions, at.length(input_ids, 1));
    let mut x = at.add(at.embedding("token_embedding", input_ids, tokens, block.width)?, positions);
    let mask = root.causal_padding_mask(input_ids, attention_mask);
    for layer in 0..*layers {
        x = block.apply(&root.sub(format!("encoder.layers.{layer}")), x, Some(mask))?;
    }
    x = root.layer_norm("final_layer_norm", x, block.width, block.epsilon)?;
    let end = match config.token_or("eos_token_id", Some(49_407))? {
        EOS_OF_OLD_FILES => input_ids,
        end => root.equal(input_ids, root.integer(i64::try_from(end).expect("tokens are bounded"))),
    };
    let pooled = root.at_largest(x, end);
    let embeds = graph.module("").project("text_projection", pooled, block.width, *projection)?;
    graph.output("text_embeds", embeds, &[batch, Dim::Fixed(*projection)]);
    Ok(graph.finish("text"))
}

fn vision(tower: &Tower, checkpoint: &dyn Checkpoint) -> Result<Graph, ConvertError> {
    let Tower { config, layers, block, projection } = tower;
    let (image, patch, channels) = (
        config.size_or("image_size", 224)?,
        config.size_or("patch_size", 32)?,
        config.size_or("num_channels", 3)?,
    );
    let graph = Builder::new(checkpoint);
    let root = graph.module("vision_model");
    let batch = symbol("batch");
    let pixels = [batch.clone(), Dim::Fixed(channels), Dim::Fixed(image), Dim::Fixed(image)];
    let pixels = graph.floats("pixel_values", &pixels);

    let at = root.sub("embeddings");
    let patches = at.patches("patch_embedding", pixels, (channels, patch, block.width), false)?;
    let class = at.weight("class_embedding", &[block.width])?;
    let places = (image / patch).pow(2) + 1;
    let positions = at.weight("position_embedding.weight", &[places, block.width])?;
    let mut x = at.add(at.prepend(class, patches, block.width), positions);
    // So spelt in the original.
    x = root.layer_norm("pre_layrnorm", x, block.width, block.epsilon)?;
    for layer in 0..*layers {
        x = block.apply(&root.sub(format!("encoder.layers.{layer}")), x, None)?;
    }
    let pooled = root.layer_norm("post_layernorm", root.pick(x, 1, 0), block.width, block.epsilon)?;
    let embeds = graph.module("").project("visual_projection", pooled, block.width, *projection)?;
    graph.output("image_embeds", embeds, &[batch, Dim::Fixed(*projection)]);
    Ok(graph.finish("vision"))
}
