//! One vector for a text from those of its tokens, as sentence-transformers' files say.

use serde::Deserialize;

use super::{
    Companions, ModalityError,
    companions::{MODULES, POOLING},
};

/// How tokens' vectors become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    Mean,
    First,
    Last,
    Max,
}

/// What is done with the network's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) pooling: Pooling,
    pub(super) normalise: bool,
}

impl Ending {
    /// What most embedding models that say nothing are trained for.
    const DEFAULT: Self = Self { pooling: Pooling::Mean, normalise: true };
}

#[derive(Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
#[allow(clippy::struct_excessive_bools, clippy::struct_field_names, reason = "the file's own fields")]
struct Modes {
    pooling_mode: Option<String>,
    pooling_mode_cls_token: bool,
    pooling_mode_mean_tokens: bool,
    pooling_mode_max_tokens: bool,
    pooling_mode_mean_sqrt_len_tokens: bool,
    pooling_mode_weightedmean_tokens: bool,
    pooling_mode_lasttoken: bool,
}

/// As the model's files say; mean and normalised where there are none.
pub(super) fn ending(companions: &Companions) -> Result<Ending, ModalityError> {
    let modes: Option<Modes> = companions.json(POOLING)?;
    let pooling = modes.map_or(Ok(Ending::DEFAULT.pooling), |modes| {
        modes.pooling().map_err(|problem| ModalityError::Companion { name: POOLING, problem })
    })?;
    let Some(modules) = companions.json::<Vec<Module>>(MODULES)? else {
        return Ok(Ending { pooling, ..Ending::DEFAULT });
    };
    let mut normalise = false;
    for Module { kind, path } in &modules {
        match kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" => {}
            "Normalize" => normalise = true,
            "Pooling" if path == "1_Pooling" => {}
            other => {
                let problem =
                    format!("the step {other} at {path:?} is none of Transformer, 1_Pooling and Normalize");
                return Err(ModalityError::Companion { name: MODULES, problem });
            }
        }
    }
    Ok(Ending { pooling, normalise })
}

impl Modes {
    fn pooling(&self) -> Result<Pooling, String> {
        let known = [
            ("cls", self.pooling_mode_cls_token, Some(Pooling::First)),
            ("mean", self.pooling_mode_mean_tokens, Some(Pooling::Mean)),
            ("max", self.pooling_mode_max_tokens, Some(Pooling::Max)),
            ("lasttoken", self.pooling_mode_lasttoken, Some(Pooling::Last)),
            ("mean_sqrt_len_tokens", self.pooling_mode_mean_sqrt_len_tokens, None),
            ("weightedmean", self.pooling_mode_weightedmean_tokens, None),
        ];
        let named = self.pooling_mode.as_deref();
        let chosen = |(name, set, _): &&(&str, bool, _)| named.map_or(*set, |named| named == *name);
        let chosen: Vec<_> = known.iter().filter(chosen).collect();
        match chosen.as_slice() {
            [(_, _, Some(pooling))] => Ok(*pooling),
            _ => Err("one of cls, mean, max and lasttoken is wanted as the pooling mode".to_owned()),
        }
    }
}

/// The vector of one text from those of its tokens, `[tokens, width]`; `real` tells padding from tokens.
pub(super) fn pool(pooling: Pooling, vectors: &[f32], width: usize, real: &[bool]) -> Vec<f32> {
    let rows = vectors.chunks_exact(width).zip(real).filter_map(|(row, real)| real.then_some(row));
    let fold = |begin: f32, join: fn(f32, f32) -> f32| {
        rows.clone().fold(vec![begin; width], |mut pooled, row| {
            pooled.iter_mut().zip(row).for_each(|(pooled, value)| *pooled = join(*pooled, *value));
            pooled
        })
    };
    match pooling {
        Pooling::Mean => {
            let count = rows.clone().count().max(1) as f32;
            fold(0.0, |sum, value| sum + value).into_iter().map(|sum| sum / count).collect()
        }
        Pooling::Max => fold(f32::NEG_INFINITY, f32::max),
        Pooling::First => rows.clone().next().unwrap_or_default().to_vec(),
        Pooling::Last => rows.clone().next_back().unwrap_or_default().to_vec(),
    }
}

/// To length 1; a vector of zeros stays what it is.
pub(super) fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        for value in vector {
            *value = (f64::from(*value) / length) as f32;
        }
    }
}
