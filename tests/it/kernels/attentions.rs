//! Attention in its several forms, and rotation by position.

use super::nodes::{Node, flags, ints, longs, microsoft, node};

const NEAR: f32 = 2e-5;

/// Queries, keys and values of 2 in 3 heads.
fn multihead(queries: usize, keys: usize) -> Node {
    let node = microsoft("MultiHeadAttention").seeded(&[2, queries, 15]).seeded(&[2, keys, 15]);
    node.seeded(&[2, keys, 21]).int("num_heads", 3)
}

fn seen(rows: usize, keys: usize) -> Vec<i32> {
    // Every row sees its first key.
    (0..rows * keys).map(|at| i32::from(at % keys == 0 || at % 3 != 1)).collect()
}

#[tokio::test]
async fn many_heads_attend_under_masks_and_biases() {
    for (queries, keys) in [(1, 1), (3, 3), (5, 17), (17, 129)] {
        let with = || multihead(queries, keys);
        let mask = || ints(&[2, keys], &seen(2, keys));
        with().agrees(NEAR).await;
        with().weight(&[51]).real("scale", 0.7).agrees(NEAR).await;
        with().none().given(mask()).agrees(NEAR).await;
        with().none().given(ints(&[2], &[keys as i32, keys.div_ceil(2) as i32])).agrees(NEAR).await;
        with().none().given(mask()).seeded(&[1, 3, queries, keys]).agrees(NEAR).await;
    }
    let past = || {
        let node =
            microsoft("MultiHeadAttention").seeded(&[2, 3, 12]).seeded(&[2, 3, 12]).seeded(&[2, 3, 12]);
        node.int("num_heads", 3).outputs(&[true; 3])
    };
    let kept = |node: Node| node.none().seeded(&[2, 3, 5, 4]).seeded(&[2, 3, 5, 4]);
    kept(past().none().none()).int("unidirectional", 1).agrees(NEAR).await;
    kept(past().none().given(ints(&[2, 8], &seen(2, 8)))).agrees(NEAR).await;
    let across =
        microsoft("MultiHeadAttention").seeded(&[2, 3, 12]).seeded(&[2, 3, 6, 4]).seeded(&[2, 3, 6, 4]);
    across.int("num_heads", 3).agrees(NEAR).await;
    multihead(3, 3)
        .none()
        .none()
        .none()
        .none()
        .none()
        .given(ints(&[1], &[0]))
        .refused("past_sequence_length");
}

#[tokio::test]
async fn attention_projects_what_it_attends_to() {
    for rows in [1, 5, 17] {
        let with = || {
            microsoft("Attention").seeded(&[2, rows, 9]).weight(&[9, 36]).weight(&[36]).int("num_heads", 3)
        };
        with().agrees(NEAR).await;
        with().int("unidirectional", 1).agrees(NEAR).await;
        with().given(ints(&[2, rows], &seen(2, rows))).agrees(NEAR).await;
        with().given(ints(&[2], &[rows as i32, rows.div_ceil(2) as i32])).agrees(NEAR).await;
        let past = with().none().seeded(&[2, 2, 3, 4, 4]).int("unidirectional", 1);
        past.outputs(&[true; 2]).agrees(NEAR).await;
    }
    let wide = microsoft("Attention").seeded(&[2, 5, 9]).weight(&[9, 45]).weight(&[45]).int("num_heads", 3);
    wide.ints("qkv_hidden_sizes", &[12, 12, 21]).agrees(NEAR).await;
}

#[tokio::test]
async fn onnxs_attention_shares_heads_of_keys() {
    let with =
        || node("Attention").opset(23).seeded(&[2, 6, 5, 4]).seeded(&[2, 3, 7, 4]).seeded(&[2, 3, 7, 8]);
    with().agrees(NEAR).await;
    with().int("is_causal", 1).agrees(NEAR).await;
    with().real("softcap", 0.5).real("scale", 2.0).agrees(NEAR).await;
    let mask = seen(5, 7).iter().map(|seen| *seen as u8).collect();
    with().given(flags(&[5, 7], mask)).agrees(NEAR).await;
    with().seeded(&[2, 1, 5, 7]).int("is_causal", 1).agrees(NEAR).await;
    let kept = || with().none().seeded(&[2, 3, 9, 4]).seeded(&[2, 3, 9, 8]).outputs(&[true; 3]);
    kept().agrees(NEAR).await;
    let lines = node("Attention").opset(23).seeded(&[2, 5, 24]).seeded(&[2, 7, 12]).seeded(&[2, 7, 18]);
    lines.int("q_num_heads", 6).int("kv_num_heads", 3).agrees(NEAR).await;
    with().outputs(&[true, false, false, true]).refused("scores");
}

/// A cache and what comes to it.
struct Grouped {
    batch: usize,
    tokens: usize,
    capacity: Option<usize>,
    /// For each of the batch.
    totals: &'static [i32],
}

impl Grouped {
    fn node(&self, rotary: bool, packed: bool) -> Node {
        let Self { batch, tokens, capacity, totals } = *self;
        let most = *totals.iter().max().expect("at least one");
        let less: Vec<i32> = totals.iter().map(|total| total - 1).collect();
        let node = microsoft("GroupQueryAttention").outputs(&[true; 3]);
        let node = if packed {
            node.seeded(&[batch, tokens, 160]).none().none()
        } else {
            node.seeded(&[batch, tokens, 96]).seeded(&[batch, tokens, 32]).seeded(&[batch, tokens, 32])
        };
        let node = match capacity {
            Some(rows) => node.seeded(&[batch, 2, rows, 16]).seeded(&[batch, 2, rows, 16]),
            None => node.none().none(),
        };
        let node = node.given(ints(&[batch], &less)).constant(ints(&[], &[most]));
        let node = if rotary { node.weight(&[40, 8]).weight(&[40, 8]) } else { node };
        node.int("num_heads", 6).int("kv_num_heads", 2).int("do_rotary", rotary.into())
    }
}

#[tokio::test]
async fn caches_grow_or_are_filled() {
    let cases = [
        // Without a past, growing by one and by several, several sequences, and those of different lengths.
        Grouped { batch: 1, tokens: 5, capacity: None, totals: &[5] },
        Grouped { batch: 1, tokens: 1, capacity: Some(7), totals: &[8] },
        Grouped { batch: 1, tokens: 3, capacity: Some(7), totals: &[10] },
        Grouped { batch: 2, tokens: 1, capacity: Some(7), totals: &[8, 8] },
        Grouped { batch: 2, tokens: 1, capacity: Some(7), totals: &[8, 5] },
    ];
    for case in cases {
        for rotary in [false, true] {
            for packed in [false, true] {
                case.node(rotary, packed).agrees(NEAR).await;
            }
            case.node(rotary, false).int("local_window_size", 4).agrees(NEAR).await;
            case.node(rotary, false).real("softcap", 1.5).real("scale", 0.9).agrees(NEAR).await;
        }
        case.node(true, false).int("rotary_interleaved", 1).agrees(NEAR).await;
        case.node(false, false).int("smooth_softmax", 1).refused("smooth_softmax");
    }
    // With more room than there is something to keep, whose rest is nobody's.
    let cases = [
        Grouped { batch: 1, tokens: 5, capacity: Some(16), totals: &[5] },
        Grouped { batch: 1, tokens: 1, capacity: Some(16), totals: &[8] },
        Grouped { batch: 2, tokens: 1, capacity: Some(16), totals: &[8, 4] },
        Grouped { batch: 1, tokens: 3, capacity: Some(16), totals: &[8] },
    ];
    for case in cases {
        let totals = case.totals;
        let kept = move |output: usize, values: Vec<f64>| {
            if output == 0 {
                return values;
            }
            let rows = values.len() / 16;
            let of = |row: usize| totals[row / 16 / 2] as usize;
            (0..rows)
                .filter(|row| row % 16 < of(*row))
                .flat_map(|row| values[row * 16..][..16].to_vec())
                .collect()
        };
        case.node(true, false).agrees_at(NEAR, &kept).await;
    }
    let many = Grouped { batch: 2, tokens: 3, capacity: Some(16), totals: &[8, 8] };
    many.node(true, false).refused("3 tokens of 2");
}

#[tokio::test]
async fn rows_turn_by_their_positions() {
    for interleaved in [0, 1] {
        let with = |node: Node, shape: &[usize]| node.seeded(shape).int("interleaved", interleaved);
        let positions = || longs(&[2, 5], &[0, 19, 3, 3, 7, 1, 2, 3, 4, 5]);
        let tables = |node: Node| node.weight(&[20, 4]).weight(&[20, 4]);
        for shape in [&[2, 5, 24][..], &[2, 3, 5, 8]] {
            tables(with(microsoft("RotaryEmbedding"), shape).given(positions())).agrees(NEAR).await;
            tables(with(microsoft("RotaryEmbedding"), shape).given(longs(&[1], &[4]))).agrees(NEAR).await;
        }
        let part = with(microsoft("RotaryEmbedding"), &[2, 5, 36]).given(positions());
        tables(part).int("num_heads", 3).int("rotary_embedding_dim", 8).agrees(NEAR).await;
        let own = tables(with(node("RotaryEmbedding").opset(23), &[2, 3, 5, 12])).given(positions());
        own.int("rotary_embedding_dim", 8).agrees(NEAR).await;
        let without =
            with(node("RotaryEmbedding").opset(23), &[2, 5, 24]).seeded(&[2, 5, 4]).seeded(&[2, 5, 4]);
        without.int("num_heads", 3).agrees(NEAR).await;
    }
}
