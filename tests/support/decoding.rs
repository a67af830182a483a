//! What `PyTorch` chooses token by token (`fixtures/checkpoints/greedy.py`), and decoders that are to choose the same.

use bytes::Bytes;
use serde_json::{Value, json};
use weft::{
    backend::{
        Backend, SessionName,
        decode::{Decoder, best},
    },
    domain::Signature,
};

use crate::checkpoints::{Original, TOLERANCE, committed, written};

pub(crate) const FAMILIES: [&str; 2] = ["llama", "qwen2"];

pub(crate) struct Greedy {
    pub(crate) prompt: Vec<i64>,
    chosen: Vec<i64>,
    /// What the chosen tokens scored.
    scores: Vec<f32>,
    positions: Value,
}

impl Greedy {
    pub(crate) fn of(family: &str) -> Self {
        let made: Value = serde_json::from_slice(&committed("", "greedy.json")).expect("JSON");
        let tokens = |what: &str| {
            let tokens = made[family][what].as_array().expect("a list");
            tokens.iter().map(|token| token.as_i64().expect("a token")).collect()
        };
        let scores = made[family]["scores"].as_array().expect("a list");
        let scores = scores.iter().map(|score| score.as_f64().expect("a number") as f32).collect();
        let margin = made[family]["margin"].as_f64().expect("a number");
        assert!(margin > 10.0 * TOLERANCE, "{family}: a choice was so close that rounding decides it");
        let positions = made["positions"].clone();
        Self { prompt: tokens("prompt"), chosen: tokens("chosen"), scores, positions }
    }

    /// The graph that weft makes of the same weights.
    pub(crate) fn graph(&self, family: &str) -> Bytes {
        let mut original = Original::read(family);
        original.config["max_position_embeddings"] = json!(self.positions);
        written(&original.parts()[0]).into()
    }

    /// Two sequences after one another, the second beginning anew; the first is fed in two parts and looked at closely.
    pub(crate) async fn check(&self, lane: &dyn Backend, session: &SessionName, signature: &Signature) {
        let decoder = || Decoder::new(lane, session.clone(), signature).expect("a decoder's graph");
        let (first, rest) = self.prompt.split_at(150);
        let mut fed = decoder();
        fed.feed(first).await.expect("a good prompt");
        let mut scores = fed.feed(rest).await.expect("a good prompt");
        for (at, (token, wanted)) in self.chosen.iter().zip(&self.scores).enumerate() {
            assert_eq!(best(&scores), *token, "at {at}");
            let found = scores[*token as usize];
            assert!((found - wanted).abs() <= 1e-3 * wanted.abs(), "at {at}: {found} for {wanted}");
            scores = fed.feed(&[*token]).await.expect("a good token");
        }
        assert!(fed.rows() > 256, "the caches have grown");
        let mut whole = decoder();
        let chosen = whole.greedy(&self.prompt, self.chosen.len()).await.expect("a good prompt");
        assert_eq!(chosen, self.chosen);
    }
}
