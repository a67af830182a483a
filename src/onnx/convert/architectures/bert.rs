//! Encoders of text that normalise after every sum: BERT, `DistilBERT`, `RoBERTa` and `MPNet`, and their
//! classifiers.

use super::{
    Builder, Checkpoint, Config, ConvertError, Draft, ModelKind,
    block::{Block, Names, Order},
    prefix, saved_as,
};
use crate::domain::Dim;
use crate::onnx::convert::graph::{Activation, Buckets, Heads, Module, Value, symbol};

/// Heads of pretraining, buffers, and poolers that a classifier goes without.
pub(super) const LEAVES: &[&str] = &[
    "cls.",
    "pooler.dense.weight",
    "pooler.dense.bias",
    "lm_head.",
    "vocab_transform.",
    "vocab_layer_norm.",
    "vocab_projector.",
    "embeddings.position_ids",
    "embeddings.token_type_ids",
];

const BERT: Names = Names {
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    out: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    inner: "intermediate.dense",
    outer: "output.dense",
    outer_norm: "output.LayerNorm",
};

const MPNET: Names = Names {
    query: "attention.attn.q",
    key: "attention.attn.k",
    value: "attention.attn.v",
    out: "attention.attn.o",
    attention_norm: "attention.LayerNorm",
    ..BERT
};

const DISTILBERT: Names = Names {
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    out: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    inner: "ffn.lin1",
    outer: "ffn.lin2",
    outer_norm: "output_layer_norm",
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Bert,
    DistilBert,
    Roberta,
    Mpnet,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Head {
    /// The encoder itself, whatever it was trained with.
    None,
    Sequence,
    Token,
}

/// What a checkpoint can have been saved as.
const HEADS: [&str; 5] =
    ["Model", "ForMaskedLM", "ForPreTraining", "ForSequenceClassification", "ForTokenClassification"];

struct Encoder {
    family: Family,
    layers: u64,
    block: Block,
    tokens: u64,
    positions: u64,
    /// Kinds of segments; 0 where the family knows none.
    segments: u64,
    /// The token of padding, where positions depend on it.
    padding: Option<u64>,
    head: Head,
}

impl Encoder {
    fn parse(config: &Config) -> Result<Self, ConvertError> {
        let (family, names) = match config.word("model_type")? {
            "bert" => (Family::Bert, &BERT),
            "distilbert" => (Family::DistilBert, &DISTILBERT),
            "mpnet" => (Family::Mpnet, &MPNET),
            _ => (Family::Roberta, &BERT),
        };
        config.only("is_decoder", false)?;
        config.only("add_cross_attention", false)?;
        config.only("position_embedding_type", "absolute")?;
        let distil = family == Family::DistilBert;
        let key = |bert: &'static str, distilbert: &'static str| if distil { distilbert } else { bert };
        let width = config.size(key("hidden_size", "dim"))?;
        let (count, size) = config.heads(key("num_attention_heads", "n_heads"), width)?;
        let block = Block {
            names,
            order: Order::NormLast,
            width,
            heads: Heads::equal(count, size),
            inner: config.size(key("intermediate_size", "hidden_dim"))?,
            activation: Activation::of(config, key("hidden_act", "activation"), None)?,
            // DistilBERT's is no setting.
            epsilon: if distil { 1e-12 } else { config.number("layer_norm_eps")? },
            key_bias: true,
        };
        Ok(Self {
            family,
            layers: config.layers(key("num_hidden_layers", "n_layers"))?,
            block,
            tokens: config.size("vocab_size")?,
            positions: config.size("max_position_embeddings")?,
            segments: match family {
                Family::Bert | Family::Roberta => config.size("type_vocab_size")?,
                Family::DistilBert | Family::Mpnet => 0,
            },
            padding: match family {
                Family::Bert | Family::DistilBert => None,
                Family::Roberta => Some(config.token("pad_token_id")?),
                // MPNet's is no setting.
                Family::Mpnet => Some(1),
            },
            head: match saved_as(config, &HEADS)? {
                "ForSequenceClassification" => Head::Sequence,
                "ForTokenClassification" => Head::Token,
                _ => Head::None,
            },
        })
    }
}

pub(super) fn describe(config: &Config, checkpoint: &dyn Checkpoint) -> Result<Vec<Draft>, ConvertError> {
    let encoder = Encoder::parse(config)?;
    let prefixes: &[&str] = match encoder.family {
        Family::Bert => &["", "bert"],
        Family::DistilBert => &["", "distilbert"],
        Family::Roberta => &["", "roberta"],
        Family::Mpnet => &["", "mpnet"],
    };
    let graph = Builder::new(checkpoint);
    let root = graph.module(prefix(checkpoint, prefixes, "embeddings.word_embeddings.weight"));
    let text = [symbol("batch"), symbol("sequence")];
    let input_ids = graph.integers("input_ids", &text);
    let attention_mask = graph.integers("attention_mask", &text);
    let segments = (encoder.segments > 1).then(|| graph.integers("token_type_ids", &text));

    let mut x = encoder.embed(&root.sub("embeddings"), input_ids, segments)?;
    let mut bias = root.padding_mask(attention_mask);
    if encoder.family == Family::Mpnet {
        let buckets = Buckets::parse(config, 128)?;
        let length = root.tokens(input_ids);
        let name = "encoder.relative_attention_bias";
        bias =
            root.add(bias, root.distance_bias(name, encoder.block.heads.count, buckets, (length, length))?);
    }
    let layers = root.sub(match encoder.family {
        Family::DistilBert => "transformer.layer",
        _ => "encoder.layer",
    });
    for layer in 0..encoder.layers {
        x = encoder.block.apply(&layers.sub(layer), x, Some(bias))?;
    }

    let [batch, sequence] = text;
    let labels = || config.labels().map(Dim::Fixed);
    let kind = match encoder.head {
        Head::None => {
            graph.output("last_hidden_state", x, &[batch.clone(), sequence, Dim::Fixed(encoder.block.width)]);
            if root.has("pooler.dense.weight") {
                let pooled = encoder.pool(&root, x)?;
                graph.output("pooler_output", pooled, &[batch, Dim::Fixed(encoder.block.width)]);
            }
            ModelKind::Embedding
        }
        Head::Sequence => {
            let logits = encoder.classify(&graph.module(""), &root, x, config.labels()?)?;
            graph.output("logits", logits, &[batch, labels()?]);
            ModelKind::Other
        }
        Head::Token => {
            let logits = graph.module("").linear("classifier", x, encoder.block.width, config.labels()?)?;
            graph.output("logits", logits, &[batch, sequence, labels()?]);
            ModelKind::Other
        }
    };
    Ok(vec![Draft { name: "model", kind, graph: graph.finish("model") }])
}

impl Encoder {
    fn embed(
        &self,
        at: &Module<'_>,
        input_ids: Value,
        segments: Option<Value>,
    ) -> Result<Value, ConvertError> {
        let mut x = at.embedding("word_embeddings", input_ids, self.tokens, self.block.width)?;
        if self.segments > 0 {
            let name = "token_type_embeddings";
            let kind = segments.unwrap_or_else(|| at.integer(0));
            x = at.add(x, at.embedding(name, kind, self.segments, self.block.width)?);
        }
        let positions = match self.padding {
            None => {
                let table = at.weight("position_embeddings.weight", &[self.positions, self.block.width])?;
                at.first(table, at.length(input_ids, 1))
            }
            Some(padding) => {
                let places = positions_beside_padding(at, input_ids, padding);
                at.embedding("position_embeddings", places, self.positions, self.block.width)?
            }
        };
        at.layer_norm("LayerNorm", at.add(x, positions), self.block.width, self.block.epsilon)
    }

    fn pool(&self, root: &Module<'_>, x: Value) -> Result<Value, ConvertError> {
        let first = root.pick(x, 1, 0);
        Ok(root.tanh(root.linear("pooler.dense", first, self.block.width, self.block.width)?))
    }

    fn classify(
        &self,
        at: &Module<'_>,
        root: &Module<'_>,
        x: Value,
        labels: u64,
    ) -> Result<Value, ConvertError> {
        let first = at.pick(x, 1, 0);
        match self.family {
            Family::Bert => at.linear("classifier", self.pool(root, x)?, self.block.width, labels),
            Family::DistilBert => {
                let hidden = at.linear("pre_classifier", first, self.block.width, self.block.width)?;
                at.linear("classifier", at.activate(Activation::Relu, hidden), self.block.width, labels)
            }
            Family::Roberta | Family::Mpnet => {
                let hidden =
                    at.tanh(at.linear("classifier.dense", first, self.block.width, self.block.width)?);
                at.linear("classifier.out_proj", hidden, self.block.width, labels)
            }
        }
    }
}

/// Positions counted from the token of padding on, which itself stays at its number.
fn positions_beside_padding(at: &Module<'_>, input_ids: Value, padding: u64) -> Value {
    let padding = at.integer(i64::try_from(padding).expect("tokens are bounded"));
    let one = at.integer(1);
    let real = at.subtract(one, at.to_integer(at.equal(input_ids, padding)));
    let counted = at.node("CumSum", &[real, one], &[]);
    at.add(at.multiply(counted, real), padding)
}
