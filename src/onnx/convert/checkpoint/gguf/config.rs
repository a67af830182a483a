//! What a GGUF file says about its model, in the words of the original's `config.json`.

use std::f64::consts::TAU;

use serde_json::{Map, Value as Json, json};

use super::{
    GgufError,
    blocks::Kind,
    header::{Header, Value},
    names::Architecture,
};

/// Llama 3.1 and later: one factor for each pair of a head's elements, kept as a tensor.
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// No model has more heads, or heads as wide; bounds what is multiplied.
const SIZE_MAX: u64 = 1 << 24;

#[derive(Clone, Debug)]
pub(super) struct Settings {
    architecture: Architecture,
    pub(super) heads: u64,
    pub(super) key_heads: u64,
    head_width: u64,
    width: u64,
    inner: u64,
    layers: u64,
    positions: u64,
    epsilon: f32,
    theta: f32,
    linear: Option<f32>,
}

struct Said<'h> {
    header: &'h Header<'h>,
    architecture: Architecture,
}

impl Said<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture.name())
    }

    fn get(&self, key: &str) -> Option<Value<'_>> {
        self.header.said.get(self.key(key).as_str()).copied()
    }

    fn optional_size(&self, key: &str) -> Result<Option<u64>, GgufError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Whole(size)) if (1..=SIZE_MAX.into()).contains(&size) => Ok(Some(size as u64)),
            Some(_) => Err(GgufError::Setting { key: self.key(key) }),
        }
    }

    fn size(&self, key: &str) -> Result<u64, GgufError> {
        self.optional_size(key)?.ok_or_else(|| GgufError::NoSetting { key: self.key(key) })
    }

    fn fraction(&self, key: &str) -> Result<Option<f32>, GgufError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Fraction(value)) if value > 0.0 && value.is_finite() => Ok(Some(value)),
            Some(_) => Err(GgufError::Setting { key: self.key(key) }),
        }
    }

    /// Refuses an option of the architecture that the original's graphs do not have.
    fn without(&self, key: &str) -> Result<(), GgufError> {
        match self.get(key) {
            None | Some(Value::Whole(0)) => Ok(()),
            Some(_) => Err(GgufError::Unsupported { key: self.key(key) }),
        }
    }

    /// By how much positions are divided.
    fn linear(&self) -> Result<Option<f32>, GgufError> {
        match self.get("rope.scaling.type") {
            None | Some(Value::Text("none")) => Ok(None),
            Some(Value::Text("linear")) => {
                let key = "rope.scaling.factor";
                self.fraction(key)?.map(Some).ok_or_else(|| GgufError::NoSetting { key: self.key(key) })
            }
            Some(_) => Err(GgufError::Unsupported { key: self.key("rope.scaling.type") }),
        }
    }
}

impl Settings {
    pub(super) fn read(header: &Header<'_>, architecture: Architecture) -> Result<Self, GgufError> {
        let said = Said { header, architecture };
        for key in ["expert_count", "attention.sliding_window", "rope.scale_linear"] {
            said.without(key)?;
        }
        let (width, heads) = (said.size("embedding_length")?, said.size("attention.head_count")?);
        let head_width = match said.optional_size("attention.key_length")? {
            Some(given) => given,
            None if width.is_multiple_of(heads) => width / heads,
            None => return Err(GgufError::Setting { key: said.key("attention.head_count") }),
        };
        // Heads whose parts differ, or of which only a part is rotated.
        for key in ["attention.value_length", "rope.dimension_count"] {
            if said.optional_size(key)?.is_some_and(|given| given != head_width) {
                return Err(GgufError::Unsupported { key: said.key(key) });
            }
        }
        let epsilon = "attention.layer_norm_rms_epsilon";
        Ok(Self {
            architecture,
            heads,
            key_heads: said.optional_size("attention.head_count_kv")?.unwrap_or(heads),
            head_width,
            width,
            inner: said.size("feed_forward_length")?,
            layers: said.size("block_count")?,
            positions: said.size("context_length")?,
            epsilon: said
                .fraction(epsilon)?
                .ok_or_else(|| GgufError::NoSetting { key: said.key(epsilon) })?,
            theta: said.fraction("rope.freq_base")?.unwrap_or(10_000.0),
            linear: said.linear()?,
        })
    }

    pub(super) fn json(&self, header: &Header<'_>, file: &[u8]) -> Result<String, GgufError> {
        let has = |name: &str| header.tensors.iter().any(|entry| entry.name == name);
        let embedding = "token_embd.weight";
        let tokens = header.tensors.iter().find(|entry| entry.name == embedding);
        let tokens = tokens.and_then(|entry| entry.shape.first());
        let tokens = tokens.ok_or_else(|| GgufError::NoSetting { key: embedding.to_owned() })?;
        let class = match self.architecture {
            Architecture::Llama => "LlamaForCausalLM",
            Architecture::Qwen2 => "Qwen2ForCausalLM",
        };
        let mut config = Map::new();
        let entries = [
            ("architectures", json!([class])),
            ("head_dim", self.head_width.into()),
            ("hidden_act", "silu".into()),
            ("hidden_size", self.width.into()),
            ("intermediate_size", self.inner.into()),
            ("max_position_embeddings", self.positions.into()),
            ("model_type", self.architecture.name().into()),
            ("num_attention_heads", self.heads.into()),
            ("num_hidden_layers", self.layers.into()),
            ("num_key_value_heads", self.key_heads.into()),
            ("rms_norm_eps", decimal(self.epsilon)),
            ("rope_theta", decimal(self.theta)),
            ("tie_word_embeddings", (!has("output.weight")).into()),
            ("vocab_size", (*tokens).into()),
        ];
        config.extend(entries.map(|(key, value)| (key.to_owned(), value)));
        // A Qwen2 always has these biases, and no word for them.
        if self.architecture == Architecture::Llama && has("blk.0.attn_q.bias") {
            config.insert("attention_bias".to_owned(), true.into());
        }
        if let Some(scaling) = self.scaling(header, file)? {
            config.insert("rope_scaling".to_owned(), scaling);
        }
        Ok(Json::Object(config).to_string())
    }

    fn scaling(&self, header: &Header<'_>, file: &[u8]) -> Result<Option<Json>, GgufError> {
        let Some(entry) = header.tensors.iter().find(|entry| entry.name == ROPE_FACTORS) else {
            let linear = self.linear.map(|factor| json!({"rope_type": "linear", "factor": decimal(factor)}));
            return Ok(linear);
        };
        if entry.kind != Kind::F32 || self.linear.is_some() {
            return Err(GgufError::RopeFactors);
        }
        let factors = file[entry.from..entry.to].as_chunks::<4>().0;
        let factors: Vec<_> = factors.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        self.llama3(&factors).map(Some).ok_or(GgufError::RopeFactors)
    }

    /// Llama 3's rule, if the factors follow it: long waves are stretched by one factor, short ones are kept.
    fn llama3(&self, factors: &[f32]) -> Option<Json> {
        const POSITIONS: f64 = 8192.0;
        const SHORT: f64 = 4.0;
        const LONG: f64 = 1.0;
        let factor = f64::from(factors.iter().copied().fold(1.0, f32::max));
        let expected = |at: usize| {
            let turns =
                POSITIONS / (TAU * f64::from(self.theta).powf(2.0 * at as f64 / self.head_width as f64));
            let short = ((turns - LONG) / (SHORT - LONG)).clamp(0.0, 1.0);
            1.0 / ((1.0 - short) / factor + short)
        };
        let follows = factors.len() as u64 * 2 == self.head_width
            && factors.iter().enumerate().all(|(at, factor)| {
                let expected = expected(at);
                (f64::from(*factor) - expected).abs() <= 1e-3 * expected
            });
        follows.then(|| {
            json!({
                "factor": decimal(factor as f32),
                "high_freq_factor": SHORT,
                "low_freq_factor": LONG,
                "original_max_position_embeddings": POSITIONS as u64,
                "rope_type": "llama3",
            })
        })
    }
}

/// The shortest number that means the same `f32`: the file has rounded what `config.json` had.
fn decimal(value: f32) -> Json {
    value.to_string().parse::<f64>().map_or(Json::Null, Json::from)
}
