//! Texts as tokens: the model's own tokenizer, its limits, and batches of like length.

use serde::Deserialize;
use tokenizers::{PaddingDirection, Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy};

use super::{
    Ask, Companions, ModalityError, Task,
    companions::{CONFIG, SENTENCE_CONFIG, TOKENIZER, TOKENIZER_CONFIG},
    values,
};
use crate::domain::{Datatype, Dim, Port, Signature, Tensor};

/// Texts of one request; OpenAI's limit.
pub const TEXTS_MAX: usize = 2048;

/// Bytes of one text. What models take is a hundredth of it, and splitting it takes a second.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// Bytes of one request's texts together.
const TEXTS_BYTES_MAX: usize = 8 << 20;

/// What a model takes that says nothing of it.
const TOKENS_DEFAULT: usize = 512;

/// What a configuration says beyond this means that nobody counted.
const TOKENS_BELIEVED: u64 = 1 << 20;

/// Rows of one request to a model. More make a step longer and no row cheaper, and other requests wait.
const ROWS_MAX: usize = 32;

/// Tokens of one request to a model, with padding: 32 rows of 256, whose activations a lane's heap holds with ease.
const TOKENS_MAX: usize = 32 * 256;

/// Lengths that rows are padded to, each half again as long as the one before at most: a lane that fixes a model's
/// dimensions keeps few sessions so, and requests of like length share steps.
const LENGTHS: [usize; 13] = [16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024];

/// A text, or its tokens where the caller has made them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    Plain(String),
    Tokens(Vec<u32>),
}

/// A text's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tokens {
    pub(super) ids: Vec<u32>,
    pub(super) types: Vec<u32>,
    pub(super) truncated: bool,
}

/// A batch of texts: where each stood in the request, and its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) at: Vec<usize>,
    pub(super) rows: usize,
    pub(super) length: usize,
}

/// How a model takes texts.
#[derive(Debug)]
pub(super) struct Reader {
    task: Task,
    tokenizer: Tokenizer,
    most: usize,
    pad: u32,
    /// Whether padding stands before the tokens.
    left: bool,
    ports: Vec<Port>,
    rows: Option<usize>,
    length: Option<usize>,
}

/// Numbers in these files are sometimes floats or as large as nobody counts.
#[derive(Default, Deserialize)]
struct TokenizerConfig {
    model_max_length: Option<f64>,
    pad_token: Option<serde_json::Value>,
    padding_side: Option<String>,
}

#[derive(Default, Deserialize)]
struct SentenceConfig {
    max_seq_length: Option<u64>,
}

#[derive(Default, Deserialize)]
struct Positions {
    max_position_embeddings: Option<u64>,
    model_type: Option<String>,
    pad_token_id: Option<u32>,
}

impl Positions {
    /// RoBERTa and its kin count positions from behind the padding's.
    fn most(&self) -> Option<u64> {
        let counted = ["roberta", "xlm-roberta", "camembert", "mpnet", "longformer"];
        let from = match self.model_type.as_deref() {
            Some(kind) if counted.contains(&kind) => u64::from(self.pad_token_id.unwrap_or(1)) + 1,
            _ => 0,
        };
        self.max_position_embeddings.map(|most| most.saturating_sub(from))
    }
}

impl Reader {
    pub(super) fn new(
        task: Task,
        companions: &Companions,
        signature: &Signature,
    ) -> Result<Self, ModalityError> {
        let json = companions
            .read(TOKENIZER)
            .ok_or(ModalityError::NoCompanion { name: TOKENIZER, needed_for: "text" })?;
        let wrong = |problem: String| ModalityError::Companion { name: TOKENIZER, problem };
        let mut tokenizer = Tokenizer::from_bytes(json).map_err(|error| wrong(error.to_string()))?;
        let config: TokenizerConfig = companions.json(TOKENIZER_CONFIG)?.unwrap_or_default();
        let positions: Positions = companions.json(CONFIG)?.unwrap_or_default();
        let (rows, length) = fixed(task, signature)?;
        let sentence: SentenceConfig = companions.json(SENTENCE_CONFIG)?.unwrap_or_default();
        let own = tokenizer.get_truncation().map(|truncation| truncation.max_length as u64);
        let said = sentence.max_seq_length.or_else(|| {
            let config =
                config.model_max_length.map(|most| most as u64).filter(|most| *most < TOKENS_BELIEVED);
            config.or_else(|| positions.most()).or(own)
        });
        let limits = [said, positions.most(), length.map(|length| length as u64)];
        let most = limits.into_iter().flatten().min().map_or(TOKENS_DEFAULT, |most| most as usize);
        let direction =
            tokenizer.get_truncation().map_or(TruncationDirection::Right, |truncation| truncation.direction);
        let (pad, left) = padding(&tokenizer, &config);
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(Some(TruncationParams {
                direction,
                max_length: most,
                strategy: TruncationStrategy::LongestFirst,
                stride: 0,
            }))
            .map_err(|error| wrong(error.to_string()))?;
        Ok(Self { task, tokenizer, most, pad, left, ports: signature.inputs.clone(), rows, length })
    }

    /// Each text's tokens.
    pub(super) fn tokens(&self, texts: &[Text]) -> Result<Vec<Tokens>, ModalityError> {
        check_sizes(texts)?;
        texts.iter().enumerate().map(|(at, text)| self.tokens_of(at, text)).collect()
    }

    fn tokens_of(&self, at: usize, text: &Text) -> Result<Tokens, ModalityError> {
        let tokens = match text {
            Text::Plain(text) => {
                let encoding = self.tokenizer.encode_fast(text.as_str(), true);
                let encoding = encoding
                    .map_err(|error| ModalityError::Input(format!("text {at} has no tokens: {error}")))?;
                Tokens {
                    ids: encoding.get_ids().to_vec(),
                    types: encoding.get_type_ids().to_vec(),
                    truncated: !encoding.get_overflowing().is_empty(),
                }
            }
            Text::Tokens(ids) => {
                let size = self.tokenizer.get_vocab_size(true);
                if let Some(id) = ids.iter().find(|id| **id as usize >= size) {
                    return Err(ModalityError::Input(format!(
                        "token {id} of text {at} is none of the model's {size}"
                    )));
                }
                if ids.len() > self.most {
                    return Err(ModalityError::TooLarge {
                        what: format!("text {at} of {} tokens", ids.len()),
                        limit: format!("{} tokens, which the model takes", self.most),
                    });
                }
                Tokens { ids: ids.clone(), types: vec![0; ids.len()], truncated: false }
            }
        };
        if tokens.ids.is_empty() {
            return Err(ModalityError::Input(format!("text {at} has no tokens")));
        }
        Ok(tokens)
    }

    /// Texts of like length together, the longest first, so that little of a batch is padding.
    pub(super) fn batches(&self, tokens: &[Tokens]) -> Vec<Batch> {
        let mut order: Vec<usize> = (0..tokens.len()).collect();
        order.sort_by_key(|at| std::cmp::Reverse(tokens[*at].ids.len()));
        let mut batches = Vec::new();
        let mut rest = order.as_slice();
        while let Some(longest) = rest.first() {
            let length = self.length.unwrap_or_else(|| self.padded(tokens[*longest].ids.len()));
            let most = self.rows.unwrap_or_else(|| (TOKENS_MAX / length).clamp(1, ROWS_MAX));
            // A shorter batch than this one's length would have is not filled up with padding.
            let alike = rest
                .iter()
                .take(most)
                .take_while(|at| self.length.is_some() || self.padded(tokens[**at].ids.len()) * 2 > length);
            let (batch, others) = rest.split_at(alike.count());
            batches.push(Batch { at: batch.to_vec(), rows: self.rows.unwrap_or(batch.len()), length });
            rest = others;
        }
        batches
    }

    fn padded(&self, tokens: usize) -> usize {
        LENGTHS.into_iter().find(|length| *length >= tokens).unwrap_or(tokens).min(self.most.max(tokens))
    }

    /// The request for a batch.
    pub(super) fn ask(&self, batch: &Batch, tokens: &[Tokens], output: &str) -> Ask {
        let shape = [batch.rows, batch.length];
        let inputs = self.ports.iter().map(|port| {
            let mut values = Vec::with_capacity(batch.rows * batch.length);
            for row in 0..batch.rows {
                // Rows that a fixed batch has too many are the first text's, and are not read.
                let tokens = &tokens[batch.at[if row < batch.at.len() { row } else { 0 }]];
                self.row(&port.name, tokens, batch.length, &mut values);
            }
            values::integers(&port.name, port.datatype, &shape, &values)
        });
        Ask::one(inputs.collect::<Vec<Tensor>>(), vec![output.to_owned()])
    }

    fn row(&self, port: &str, tokens: &Tokens, length: usize, values: &mut Vec<i64>) {
        let padding = length - tokens.ids.len();
        let (fill, row): (i64, Vec<i64>) = match port {
            "input_ids" => (i64::from(self.pad), tokens.ids.iter().map(|id| i64::from(*id)).collect()),
            "attention_mask" => (0, vec![1; tokens.ids.len()]),
            _ => (0, tokens.types.iter().map(|kind| i64::from(*kind)).collect()),
        };
        let fill = std::iter::repeat_n(fill, padding);
        if self.left {
            values.extend(fill.chain(row));
        } else {
            values.extend(row.into_iter().chain(fill));
        }
    }

    /// Which of a row's places hold tokens.
    pub(super) fn real(&self, tokens: &Tokens, length: usize) -> Vec<bool> {
        let padding = length - tokens.ids.len();
        (0..length).map(|at| if self.left { at >= padding } else { at < tokens.ids.len() }).collect()
    }

    pub(super) fn task(&self) -> Task {
        self.task
    }
}

fn check_sizes(texts: &[Text]) -> Result<(), ModalityError> {
    let too_large = |what: String, limit: String| Err(ModalityError::TooLarge { what, limit });
    if texts.is_empty() {
        return Err(ModalityError::Input("there is no text".to_owned()));
    }
    if texts.len() > TEXTS_MAX {
        return too_large(format!("a request of {} texts", texts.len()), format!("{TEXTS_MAX}"));
    }
    let bytes = |text: &Text| match text {
        Text::Plain(text) => text.len(),
        Text::Tokens(ids) => ids.len() * size_of::<u32>(),
    };
    if let Some(at) = texts.iter().position(|text| bytes(text) > TEXT_BYTES_MAX) {
        return too_large(format!("text {at}"), format!("{TEXT_BYTES_MAX} bytes"));
    }
    if texts.iter().map(bytes).sum::<usize>() > TEXTS_BYTES_MAX {
        return too_large("what the texts have together".to_owned(), format!("{TEXTS_BYTES_MAX} bytes"));
    }
    Ok(())
}

/// The rows and tokens that the signature fixes, once it is one of tokens.
fn fixed(task: Task, signature: &Signature) -> Result<(Option<usize>, Option<usize>), ModalityError> {
    let wrong = |problem: String| Err(ModalityError::Signature { task, problem });
    if !takes_tokens(signature) {
        return wrong("it has no input input_ids".to_owned());
    }
    let (mut rows, mut length) = (None, None);
    for Port { name, datatype, shape } in &signature.inputs {
        if !matches!(name.as_str(), "input_ids" | "attention_mask" | "token_type_ids") {
            return wrong(format!(
                "a tokenizer gives input_ids, attention_mask and token_type_ids, not {name:?}"
            ));
        }
        let ([first, second], Datatype::Int64 | Datatype::Int32) = (shape.as_slice(), datatype) else {
            return wrong(format!("input {name:?} is not INT64 or INT32 of two dimensions"));
        };
        for (dim, size) in [(first, &mut rows), (second, &mut length)] {
            if let Dim::Fixed(fixed) = dim {
                *size = Some(usize::try_from(*fixed).unwrap_or(usize::MAX).max(1));
            }
        }
    }
    Ok((rows, length))
}

pub(super) fn takes_tokens(signature: &Signature) -> bool {
    signature.inputs.iter().any(|port| port.name == "input_ids")
}

/// The token that stands where there is none, and on which side; the mask hides it, so any will do where none is named.
fn padding(tokenizer: &Tokenizer, config: &TokenizerConfig) -> (u32, bool) {
    let own = tokenizer.get_padding();
    let named = config.pad_token.as_ref().and_then(|token| {
        // A token is a text, or an object that says more of it.
        token.as_str().or_else(|| token.get("content")?.as_str())
    });
    let named = named.and_then(|token| tokenizer.token_to_id(token));
    let left = match config.padding_side.as_deref() {
        Some(side) => side == "left",
        None => own.is_some_and(|own| matches!(own.direction, PaddingDirection::Left)),
    };
    (named.or(own.map(|own| own.pad_id)).unwrap_or(0), left)
}
