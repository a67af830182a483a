//! llama.cpp's names for tensors, and the originals. Two kinds of weights it also keeps in another order of rows.

use bytes::Bytes;

use super::{
    GgufError,
    config::Settings,
    header::{Entry, Header, Value, shown},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Architecture {
    Llama,
    Qwen2,
}

impl Architecture {
    /// As GGUF and the original's `model_type` both have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
        }
    }
}

pub(super) fn architecture(header: &Header<'_>) -> Result<Architecture, GgufError> {
    let key = "general.architecture";
    match header.said.get(key) {
        Some(Value::Text("llama")) => Ok(Architecture::Llama),
        Some(Value::Text("qwen2")) => Ok(Architecture::Qwen2),
        Some(Value::Text(name)) => Err(GgufError::Architecture { name: shown(name) }),
        Some(_) => Err(GgufError::Setting { key: key.to_owned() }),
        None => Err(GgufError::NoSetting { key: key.to_owned() }),
    }
}

pub(super) fn original(name: &str) -> Option<String> {
    let (module, parameter) = name.rsplit_once('.')?;
    if !matches!(parameter, "weight" | "bias") {
        return None;
    }
    let whole = match module {
        "token_embd" => Some("model.embed_tokens"),
        "output_norm" => Some("model.norm"),
        "output" => Some("lm_head"),
        _ => None,
    };
    if let Some(whole) = whole {
        return Some(format!("{whole}.{parameter}"));
    }
    let (layer, module) = module.strip_prefix("blk.")?.split_once('.')?;
    let layer: u32 = layer.parse().ok()?;
    let module = match module {
        "attn_norm" => "input_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "ffn_norm" => "post_attention_layernorm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        _ => return None,
    };
    Some(format!("model.layers.{layer}.{module}.{parameter}"))
}

/// How many heads share a weight's rows, of how many rows each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heads {
    count: usize,
    rows: usize,
}

/// Rotary embeddings pair a head's rows `i` and `i + rows / 2` in the original, and neighbours in llama.cpp, whose
/// converter orders the rows of a Llama's queries and keys accordingly. It leaves a Qwen2's as they are.
pub(super) fn turned(
    entry: &Entry<'_>,
    architecture: Architecture,
    settings: &Settings,
) -> Result<Option<(usize, Heads)>, GgufError> {
    let module = entry.name.strip_prefix("blk.").and_then(|rest| rest.split('.').nth(1));
    let heads = match module {
        Some("attn_q") => settings.heads,
        Some("attn_k") => settings.key_heads,
        _ => return Ok(None),
    };
    // A tensor of nothing may claim any number of rows.
    if architecture != Architecture::Llama || entry.from == entry.to {
        return Ok(None);
    }
    let rows = entry.shape.first().copied().unwrap_or(1);
    if !rows.is_multiple_of(heads * 2) {
        return Err(GgufError::Rows { tensor: shown(entry.name), rows, heads });
    }
    let (elements, bytes) = entry.kind.block();
    let row = (entry.to - entry.from) / bytes * elements * entry.kind.element().width() / rows as usize;
    Ok(Some((row, Heads { count: heads as usize, rows: (rows / heads) as usize })))
}

/// Puts each head's even rows before its odd ones.
pub(super) fn turn(bytes: &Bytes, row: usize, heads: Heads) -> Bytes {
    let mut turned = Vec::with_capacity(bytes.len());
    for head in 0..heads.count {
        for at in (0..heads.rows).step_by(2).chain((1..heads.rows).step_by(2)) {
            let from = (head * heads.rows + at) * row;
            turned.extend_from_slice(&bytes[from..from + row]);
        }
    }
    turned.into()
}
