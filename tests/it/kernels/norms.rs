//! Rows, groups and channels brought to one mean and size.

use super::nodes::{floats, microsoft, node};

const NEAR: f32 = 2e-5;

#[tokio::test]
async fn rows_have_one_mean_and_size() {
    let cases: [(&[usize], i64, &[usize]); 5] = [
        (&[3, 17], -1, &[17]),
        (&[2, 3, 129], -1, &[129]),
        (&[2, 3, 5, 7], 2, &[5, 7]),
        (&[1, 1], -1, &[1]),
        (&[4, 1000], 1, &[1000]),
    ];
    for (shape, axis, row) in cases {
        let with = |node: super::nodes::Node| node.seeded(shape).weight(row).int("axis", axis);
        with(node("LayerNormalization")).agrees(NEAR).await;
        with(node("LayerNormalization")).weight(row).real("epsilon", 1e-3).agrees(NEAR).await;
        with(node("RMSNormalization")).opset(23).agrees(NEAR).await;
        with(node("SimplifiedLayerNormalization")).agrees(NEAR).await;
    }
    let trained = node("LayerNormalization").seeded(&[2, 3]).weight(&[3]).outputs(&[true, true]);
    trained.refused("output 1");
}

#[tokio::test]
async fn what_is_added_before_is_kept_where_it_is_asked_for() {
    for operator in ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"] {
        let with = || microsoft(operator).seeded(&[2, 3, 9]).seeded(&[2, 3, 9]).weight(&[9]);
        for kept in [&[true][..], &[true, false, false, true]] {
            with().outputs(kept).agrees(NEAR).await;
            with().weight(&[9]).outputs(kept).agrees(NEAR).await;
        }
    }
    let both = microsoft("SkipLayerNormalization").seeded(&[2, 3, 9]).seeded(&[2, 3, 9]);
    let both = both.weight(&[9]).weight(&[9]).weight(&[9]);
    both.outputs(&[true, false, false, true]).agrees(NEAR).await;
    let one =
        microsoft("SkipLayerNormalization").seeded(&[2, 3, 9]).seeded(&[3, 9]).weight(&[9]).weight(&[9]);
    one.agrees(NEAR).await;
}

#[tokio::test]
async fn groups_channels_and_planes_have_one_mean_and_size() {
    let groups = |by: &[usize]| node("GroupNormalization").seeded(&[2, 9, 5, 3]).weight(by).weight(by);
    groups(&[3]).int("num_groups", 3).opset(18).agrees(NEAR).await;
    groups(&[9]).int("num_groups", 3).opset(21).agrees(NEAR).await;
    let channels = node("InstanceNormalization").seeded(&[2, 9, 17]).weight(&[9]).weight(&[9]);
    channels.real("epsilon", 1e-2).agrees(NEAR).await;
    node("MeanVarianceNormalization").seeded(&[2, 9, 5, 3]).agrees(1e-4).await;
    let mut values = crate::precision::noise(3, 30);
    values[15..18].fill(0.0);
    for p in [1, 2] {
        let node = node("LpNormalization").given(floats(&[2, 5, 3], &values));
        node.int("p", p).int("axis", -1).agrees(NEAR).await;
    }
}
