//! How well scores of tokens tell the token that came next.

use super::named;
use crate::{
    domain::{Datatype, Perplexity, Tensor},
    models::gate::floats,
};

const TOKENS: &str = "input_ids";
const MASK: &str = "attention_mask";

/// Of an output with a score for every token behind each of the inputs' tokens; nothing where it is none.
pub(super) fn perplexity(
    sets: &[Vec<Tensor>],
    wanted: &[Vec<Tensor>],
    got: &[Vec<Tensor>],
    output: &str,
) -> Option<Perplexity> {
    let mut sums = [0.0; 2];
    let mut tokens = 0;
    for (set, answers) in sets.iter().zip(wanted.iter().zip(got)) {
        let ids = integers(named(set, TOKENS)?)?;
        let shape = &named(set, TOKENS)?.shape;
        let seen = match named(set, MASK) {
            Some(mask) if mask.shape == *shape => integers(mask)?,
            _ => vec![1; ids.len()],
        };
        let both = [answers.0, answers.1].map(|answer| named(answer, output));
        let [Some(reference), Some(variant)] = both else { return None };
        let (&[rows, length], &[_, _, classes]) = (shape.as_slice(), reference.shape.as_slice()) else {
            return None;
        };
        if reference.shape != [rows, length, classes] || variant.shape != reference.shape {
            return None;
        }
        let (length, classes) = (usize::try_from(length).ok()?, usize::try_from(classes).ok()?);
        let scores = [floats(reference), floats(variant)];
        // The last of a row has none that came next.
        for at in (0..ids.len()).filter(|at| at % length + 1 < length) {
            let next = usize::try_from(ids[at + 1]).ok().filter(|next| *next < classes)?;
            if seen[at] == 0 || seen[at + 1] == 0 {
                continue;
            }
            tokens += 1;
            for (sum, scores) in sums.iter_mut().zip(&scores) {
                *sum -= log_share(&scores[at * classes..][..classes], next);
            }
        }
    }
    let mean = |sum: f64| (sum / tokens as f64).exp();
    (tokens > 0).then(|| Perplexity { tokens, reference: mean(sums[0]), variant: mean(sums[1]) })
}

/// The logarithm of what a softmax gives one of the classes.
fn log_share(scores: &[f64], class: usize) -> f64 {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let all: f64 = scores.iter().map(|score| (score - most).exp()).sum();
    scores[class] - most - all.ln()
}

fn integers(tensor: &Tensor) -> Option<Vec<i64>> {
    let bytes = tensor.body.contiguous();
    let is_whole = tensor.datatype == Datatype::Int64 && tensor.check().is_ok();
    is_whole.then(|| bytes.as_chunks::<8>().0.iter().map(|number| i64::from_le_bytes(*number)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(name: &str, shape: [u64; 2], values: &[i64]) -> Tensor {
        let body = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>().into();
        Tensor { name: name.to_owned(), datatype: Datatype::Int64, shape: shape.to_vec(), body }
    }

    fn scores(shape: [u64; 3], values: &[f32]) -> Tensor {
        let body = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>().into();
        Tensor { name: "logits".to_owned(), datatype: Datatype::Fp32, shape: shape.to_vec(), body }
    }

    #[test]
    fn whoever_knows_nothing_hesitates_between_all() {
        let ids = tokens(TOKENS, [1, 3], &[0, 3, 1]);
        let even = scores([1, 3, 4], &[0.0; 12]);
        // Sure of each token that comes, but for the last, of which nothing is asked.
        let sure = [0.0, 0.0, 0.0, 50.0, 0.0, 50.0, 0.0, 0.0, 50.0, 0.0, 0.0, 0.0];
        let sure = scores([1, 3, 4], &sure);
        let of =
            |set: Vec<Tensor>| perplexity(&[set], &[vec![sure.clone()]], &[vec![even.clone()]], "logits");
        let found = of(vec![ids.clone()]).expect("tokens and their scores");
        assert_eq!(found.tokens, 2);
        assert!((found.reference - 1.0).abs() < 1e-9 && (found.variant - 4.0).abs() < 1e-9, "{found:?}");
        // What is padding counts for nothing.
        let masked = of(vec![ids.clone(), tokens(MASK, [1, 3], &[0, 1, 1])]).expect("one token is left");
        assert_eq!(masked.tokens, 1);
        assert_eq!(of(vec![ids.clone(), tokens(MASK, [1, 3], &[1, 0, 1])]), None);
        assert_eq!(of(vec![tokens(TOKENS, [1, 3], &[0, 4, 1])]), None, "a token that has no score");
        assert_eq!(of(vec![tokens("x", [1, 3], &[0, 1, 1])]), None);
    }
}
