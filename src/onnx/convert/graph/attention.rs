//! Attention: heads, masks, rotations and biases of position.

use super::{Attribute, Module, Source, Value};
use crate::onnx::convert::{ConvertError, config::Config};

/// Added to the score of what must not be seen.
///
/// Finite, so that a row in which nothing may be seen gives numbers, and within half precision's range together with any
/// score that a trained model has; its exponential is 0 in every precision. Masks are joined before it is added, so that
/// it is never added twice.
const AWAY: f32 = -30_000.0;

/// Of a table with a row for every distance; models have 128.
const DISTANCE_MAX: u64 = 1 << 16;

#[derive(Clone, Copy, Debug)]
pub(in crate::onnx::convert) struct Heads {
    pub(in crate::onnx::convert) count: u64,
    /// Heads of keys and values, each shared by as many of the others.
    pub(in crate::onnx::convert) shared: u64,
    pub(in crate::onnx::convert) size: u64,
}

impl Heads {
    pub(in crate::onnx::convert) fn equal(count: u64, size: u64) -> Self {
        Self { count, shared: count, size }
    }

    pub(in crate::onnx::convert) fn width(&self) -> u64 {
        self.count * self.size
    }

    /// By the root of a head's size, which is what most models take.
    pub(in crate::onnx::convert) fn scale(&self) -> f32 {
        1.0 / (self.size as f32).sqrt()
    }
}

/// Sines and cosines by position.
#[derive(Clone, Copy)]
pub(in crate::onnx::convert) struct Rotation {
    cos: Value,
    sin: Value,
}

/// Which of a few learned biases holds for a distance between positions.
#[derive(Clone, Copy, Debug)]
pub(in crate::onnx::convert) struct Buckets {
    pub(in crate::onnx::convert) count: u64,
    /// From here on all distances are alike.
    pub(in crate::onnx::convert) distance_max: u64,
    /// Whether what comes later can be seen, and has half of the buckets.
    pub(in crate::onnx::convert) both_ways: bool,
}

impl Buckets {
    /// Both ways; `usual` is the distance of files that name none.
    pub(in crate::onnx::convert) fn parse(config: &Config, usual: u64) -> Result<Self, ConvertError> {
        let count = config.size("relative_attention_num_buckets")?;
        // Either way has at least one for a near distance and one for the far ones.
        if count < 4 {
            return Err(config.refuse("relative_attention_num_buckets", "at least 4"));
        }
        let distance_max = config.size_or("relative_attention_max_distance", usual)?;
        if distance_max > DISTANCE_MAX {
            return Err(config.refuse("relative_attention_max_distance", format!("at most {DISTANCE_MAX}")));
        }
        Ok(Self { count, distance_max, both_ways: true })
    }

    /// The bucket of each distance from `-distance_max` (before the one that looks) to `distance_max`.
    /// Near distances have one each, farther ones share in logarithmic steps, computed as the original does, in `f32`.
    pub(in crate::onnx::convert) fn table(self) -> Vec<u32> {
        let count = if self.both_ways { self.count / 2 } else { self.count };
        let exact = count / 2;
        let steps = (count - exact) as f32;
        let span = (self.distance_max as f64 / exact as f64).ln() as f32;
        let bucket = |distance: u64| {
            if distance < exact {
                return distance;
            }
            let step = (distance as f32 / exact as f32).ln() / span * steps;
            (exact + step as u64).min(count - 1)
        };
        let before = (0..=self.distance_max).rev().map(bucket);
        let after =
            (1..=self.distance_max).map(|distance| if self.both_ways { count + bucket(distance) } else { 0 });
        before.chain(after).map(|bucket| bucket as u32).collect()
    }
}

fn int(size: u64) -> i64 {
    i64::try_from(size).expect("sizes are bounded")
}

impl Module<'_> {
    /// `[batch, sequence, heads * size]` as `[batch, heads, sequence, size]`.
    pub(in crate::onnx::convert) fn split_heads(&self, x: Value, heads: u64, size: u64) -> Value {
        self.transpose(self.reshape(x, &[0, 0, int(heads), int(size)]), &[0, 2, 1, 3])
    }

    /// What every query takes from the values, as `[batch, sequence, heads * size]`.
    ///
    /// Queries whose heads share keys stand below each other, so that keys and values are never repeated.
    /// `bias` is added to the scores: a mask, a bias of position, or their sum.
    pub(in crate::onnx::convert) fn attend(
        &self,
        (queries, keys, values): (Value, Value, Value),
        bias: Option<Value>,
        heads: Heads,
        scale: Option<f32>,
    ) -> Value {
        let Heads { count, shared, size } = heads;
        let grouped = |x: Value, last: i64| {
            if count == shared { x } else { self.reshape(x, &[0, int(shared), -1, last]) }
        };
        let ungrouped = |x: Value, last: i64| {
            if count == shared { x } else { self.reshape(x, &[0, int(count), -1, last]) }
        };
        let queries = scale.map_or(queries, |scale| self.scale(queries, scale));
        let scores = self.matmul(grouped(queries, int(size)), self.transpose(keys, &[0, 1, 3, 2]));
        let scores = ungrouped(scores, 0);
        let weights = self.softmax(bias.map_or(scores, |bias| self.add(scores, bias)));
        let mixed = ungrouped(self.matmul(grouped(weights, 0), values), int(size));
        self.reshape(self.transpose(mixed, &[0, 2, 1, 3]), &[0, 0, int(heads.width())])
    }

    /// From 1 where something may be seen and 0 elsewhere to what is added to scores.
    fn mask(&self, seen: Value) -> Value {
        self.scale(self.subtract(self.float(1.0), seen), AWAY)
    }

    /// A mask for `[batch, heads, queries, keys]` of `[batch, keys]`, 1 for what is there and 0 for padding.
    pub(in crate::onnx::convert) fn padding_mask(&self, attention_mask: Value) -> Value {
        self.mask(self.unsqueeze(self.to_float(attention_mask), &[1, 2]))
    }

    /// The positions of the last `count` of `total`.
    pub(in crate::onnx::convert) fn positions(&self, count: Value, total: Value) -> Value {
        self.range(self.subtract(total, count), total)
    }

    /// The positions of keys in a row, and those of queries, which are the last of them, in a column.
    fn plane(&self, queries: Value, keys: Value) -> (Value, Value) {
        let row = self.range(self.integer32(0), keys);
        (row, self.unsqueeze(self.positions(queries, keys), &[1]))
    }

    /// How many tokens there are.
    pub(in crate::onnx::convert) fn tokens(&self, tokens: Value) -> Value {
        self.length32(tokens, 1)
    }

    /// The same with those of the cache, of which `key` is one layer's.
    pub(in crate::onnx::convert) fn total(&self, tokens: Value, key: Value) -> Value {
        self.add(self.length32(key, 2), self.tokens(tokens))
    }

    /// 1 where a query sees a key: its own and those before it.
    fn before(&self, tokens: Value, total: Value) -> Value {
        let (keys, queries) = self.plane(self.tokens(tokens), total);
        self.to_float(self.node("LessOrEqual", &[keys, queries], &[]))
    }

    /// A mask by which tokens see themselves and those before, with the cache's.
    pub(in crate::onnx::convert) fn causal_mask(&self, tokens: Value, total: Value) -> Value {
        self.mask(self.before(tokens, total))
    }

    /// The same, without padding; the attention mask is as long as the cache and the tokens together.
    pub(in crate::onnx::convert) fn causal_padding_mask(
        &self,
        tokens: Value,
        attention_mask: Value,
    ) -> Value {
        let seen = self.before(tokens, self.length32(attention_mask, 1));
        self.mask(self.multiply(seen, self.unsqueeze(self.to_float(attention_mask), &[1, 2])))
    }

    /// Turns by position and frequency, looked up: the sine of a large angle is no number to trust on a GPU.
    pub(in crate::onnx::convert) fn rotation(
        &self,
        position_ids: Value,
        positions: u64,
        frequencies: &[f32],
    ) -> Rotation {
        let dims = [positions, frequencies.len() as u64];
        let turn = |name: &str, sine: bool| {
            let frequencies = frequencies.iter().map(|frequency| frequency.to_bits()).collect();
            let table = self.place(&self.at(name), &dims, Source::Angles { frequencies, sine });
            self.unsqueeze(self.gather(table, position_ids, 0), &[1])
        };
        Rotation { cos: turn("cos", false), sin: turn("sin", true) }
    }

    /// Heads of `size`, of which the two halves are the two sides of every angle.
    pub(in crate::onnx::convert) fn rotate(&self, x: Value, size: u64, rotation: Rotation) -> Value {
        let Rotation { cos, sin } = rotation;
        let (left, right) = self.halves(x, int(size / 2));
        let turned_left = self.subtract(self.multiply(left, cos), self.multiply(right, sin));
        let turned_right = self.add(self.multiply(right, cos), self.multiply(left, sin));
        self.concat(&[turned_left, turned_right], -1)
    }

    /// A learned bias of every head by the distance from query to key, for `[batch, heads, queries, keys]`.
    pub(in crate::onnx::convert) fn distance_bias(
        &self,
        name: &str,
        heads: u64,
        buckets: Buckets,
        (queries, keys): (Value, Value),
    ) -> Result<Value, ConvertError> {
        let layer = self.sub(name);
        let tensor = layer.stored("weight", &[buckets.count, heads])?;
        let rows = buckets.table();
        let dims = [rows.len() as u64, heads];
        let table = layer.place(&layer.at("by_distance"), &dims, Source::Rows { tensor, rows });
        let far = i32::try_from(buckets.distance_max).expect("sizes are bounded");
        let (keys, queries) = layer.plane(queries, keys);
        let distance = layer.subtract(keys, queries);
        let bounded = layer.node("Clip", &[distance, layer.integer32(-far), layer.integer32(far)], &[]);
        let biases = layer.gather(table, layer.add(bounded, layer.integer32(far)), 0);
        Ok(layer.unsqueeze(layer.transpose(biases, &[2, 0, 1]), &[0]))
    }

    /// What stands at the place of the largest number of each row, of `[batch, sequence, width]`.
    pub(in crate::onnx::convert) fn at_largest(&self, x: Value, numbers: Value) -> Value {
        let largest = self.node(
            "ArgMax",
            &[self.to_float(numbers)],
            &[("axis", Attribute::Int(1)), ("keepdims", Attribute::Int(1))],
        );
        self.node("GatherND", &[x, largest], &[("batch_dims", Attribute::Int(1))])
    }
}
