//! A sequence of tokens through a lane that keeps the model's caches: what is new of it in parts, then token by token.
//!
//! It owns which tokens the caches have, and how many rows these have room for.
//! It never samples: whoever feeds it chooses the next token by the scores that it answers.

use tokio_util::sync::CancellationToken;

use super::{Backend, BackendError, SessionName, Step};
use crate::{
    domain::{Code, Datatype, Retry, Signature, Tensor},
    kernels::{
        host::Host,
        lower::{Keeping, POSITION, TOKENS_MAX},
    },
};

/// Rows that caches begin with; they double when they are full.
const ROWS_FIRST: usize = 256;

/// Tokens of the smaller part that prompts are fed in; the larger is of `TOKENS_MAX`.
const TOKENS_FEW: usize = 16;

/// A model's inputs that a sequence's tokens decide.
const IDS: &str = "input_ids";
const MASK: &str = "attention_mask";
const POSITIONS: &str = "position_ids";

/// One sequence, of which a session of a lane has one at a time: the next one begins anew.
pub struct Decoder<'l> {
    lane: &'l dyn Backend,
    session: SessionName,
    /// Those inputs that the model has.
    inputs: Vec<String>,
    /// The output with the scores of every token.
    scores: String,
    tokens: Vec<i64>,
    /// How many of them the caches have.
    kept: usize,
    rows: usize,
}

impl<'l> Decoder<'l> {
    /// Over a session that is loaded.
    pub fn new(
        lane: &'l dyn Backend,
        session: SessionName,
        signature: &Signature,
    ) -> Result<Self, BackendError> {
        let caches = Keeping::caches(signature);
        let names = signature.inputs.iter().map(|port| port.name.clone());
        let inputs: Vec<String> = names.filter(|name| !caches.contains_key(name.as_str())).collect();
        let uncovered = |message: String| BackendError::Uncovered { message };
        if let Some(other) = inputs.iter().find(|name| ![IDS, MASK, POSITIONS].contains(&name.as_str())) {
            return Err(uncovered(format!("the input {other:?} is none that a sequence's tokens decide")));
        }
        let goes_on = |name: &str| caches.values().any(|output| *output == name);
        let scores = signature.outputs.iter().map(|port| &port.name).find(|name| !goes_on(name)).cloned();
        let scores = scores.ok_or_else(|| uncovered("the model scores no tokens".to_owned()))?;
        Ok(Self { lane, session, inputs, scores, tokens: Vec::new(), kept: 0, rows: ROWS_FIRST })
    }

    /// All that it has been fed.
    pub fn tokens(&self) -> &[i64] {
        &self.tokens
    }

    /// Rows that the caches have room for.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Appends tokens; answers the scores of what comes behind the last of them.
    pub async fn feed(&mut self, tokens: &[i64]) -> Result<Vec<f32>, BackendError> {
        self.tokens.extend_from_slice(tokens);
        let Some(last) = self.tokens.len().checked_sub(1) else {
            return Err(wrong("a sequence needs a token to begin with".to_owned()));
        };
        while self.rows < self.tokens.len() {
            self.rows *= 2;
        }
        while self.kept < last {
            let part = match last - self.kept {
                TOKENS_MAX.. => TOKENS_MAX,
                _ => TOKENS_FEW.min(last),
            };
            // The last part begins earlier rather than be of a size of its own: the same tokens give the same rows.
            let from = self.kept.min(last - part);
            self.step(from, part, true).await?;
            self.kept = from + part;
        }
        let scores = self.step(last, 1, false).await?;
        self.kept = last + 1;
        Ok(scores)
    }

    /// Feeds tokens, then as many more as are wanted, each the one that scores best; answers these.
    pub async fn greedy(&mut self, tokens: &[i64], count: usize) -> Result<Vec<i64>, BackendError> {
        let mut chosen = Vec::with_capacity(count);
        let mut scores = self.feed(tokens).await?;
        while chosen.len() < count {
            let best = best(&scores);
            chosen.push(best);
            if chosen.len() < count {
                scores = self.feed(&[best]).await?;
            }
        }
        Ok(chosen)
    }

    async fn step(&self, from: usize, count: usize, fills: bool) -> Result<Vec<f32>, BackendError> {
        let step = Step {
            session: self.session.clone(),
            inputs: self.inputs(from, count),
            outputs: if fills { Vec::new() } else { vec![self.scores.clone()] },
            keeping: Some(Keeping { rows: self.rows, fills }),
            cancelled: CancellationToken::new(),
        };
        let answer = self.lane.execute(step).await?;
        let Some(scores) = answer.outputs.first() else { return Ok(Vec::new()) };
        match Host::decode(&scores.body.contiguous(), scores.datatype) {
            Some(Host::F32(scores)) if !scores.is_empty() => Ok(scores),
            _ => Err(wrong(format!("the output {:?} scores no tokens", self.scores))),
        }
    }

    fn inputs(&self, from: usize, count: usize) -> Vec<Tensor> {
        let tokens = from..from + count;
        let of = |name: &String| match name.as_str() {
            IDS => row(IDS, self.tokens[tokens.clone()].iter().copied()),
            POSITIONS => row(POSITIONS, tokens.clone().map(|at| at as i64)),
            _ => {
                let seen = (0..self.rows).map(|at| i64::from(at < from));
                row(MASK, seen.chain(std::iter::repeat_n(1, count)))
            }
        };
        let position = tensor(POSITION, vec![1], [from as i64]);
        self.inputs.iter().map(of).chain([position]).collect()
    }
}

/// The token that scores best, the first of those that do.
pub fn best(scores: &[f32]) -> i64 {
    let better = |best: usize, at: usize| if scores[at] > scores[best] { at } else { best };
    (0..scores.len()).fold(0, better) as i64
}

fn row(name: &str, values: impl Iterator<Item = i64>) -> Tensor {
    let values: Vec<i64> = values.collect();
    tensor(name, vec![1, values.len() as u64], values)
}

fn tensor(name: &str, shape: Vec<u64>, values: impl IntoIterator<Item = i64>) -> Tensor {
    let body: Vec<u8> = values.into_iter().flat_map(i64::to_le_bytes).collect();
    Tensor { name: name.to_owned(), datatype: Datatype::Int64, shape, body: body.into() }
}

fn wrong(message: String) -> BackendError {
    BackendError::Execute { message, code: Code::InvalidRequest, retry: Retry::Never }
}
