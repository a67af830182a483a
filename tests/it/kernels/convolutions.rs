//! Convolutions and pools over one dimension and two.

use super::nodes::node;

const NEAR: f32 = 2e-5;

#[tokio::test]
async fn convolutions_go_over_lines_and_planes() {
    // Channels in and out, in groups.
    for (from, to, groups) in [(3, 9, 3), (6, 3, 1), (9, 9, 9), (1, 1, 1)] {
        // The kernel's size, its steps, what lies between its places, and padding.
        for (size, step, apart, pad) in [(3, 1, 1, 1), (1, 1, 1, 0), (3, 2, 1, 0), (2, 1, 2, 1), (5, 3, 1, 2)]
        {
            let line = |operator, weight: &[usize]| {
                let node = node(operator)
                    .seeded(&[2, from, 17])
                    .weight(weight)
                    .weight(&[to])
                    .int("group", groups as i64);
                node.ints("strides", &[step]).ints("dilations", &[apart]).ints("pads", &[pad, pad])
            };
            line("Conv", &[to, from / groups, size]).agrees(NEAR).await;
            line("ConvTranspose", &[from, to / groups, size])
                .ints("output_padding", &[step.min(2) - 1])
                .agrees(NEAR)
                .await;
            let plane = |operator, weight: &[usize]| {
                let node =
                    node(operator).seeded(&[2, from, 9, 13]).weight(weight).int("group", groups as i64);
                node.ints("strides", &[step, 2])
                    .ints("dilations", &[apart, 1])
                    .ints("pads", &[pad, 0, pad, 1])
            };
            plane("Conv", &[to, from / groups, size, 3]).agrees(NEAR).await;
            plane("ConvTranspose", &[from, to / groups, size, 3]).agrees(NEAR).await;
        }
    }
    node("Conv").seeded(&[1, 1, 3, 3, 3]).weight(&[1, 1, 2, 2, 2]).refused("3 dimensions");
}

#[tokio::test]
async fn padding_is_found_where_it_is_asked_for() {
    for pad in ["SAME_UPPER", "SAME_LOWER", "VALID"] {
        let with = |node: super::nodes::Node| node.text("auto_pad", pad).ints("strides", &[2, 3]);
        with(node("Conv").seeded(&[2, 3, 13, 18]).weight(&[6, 3, 3, 4])).agrees(NEAR).await;
        with(node("ConvTranspose").seeded(&[2, 3, 5, 7]).weight(&[3, 6, 3, 4])).agrees(NEAR).await;
        for pool in ["MaxPool", "AveragePool"] {
            with(node(pool).seeded(&[2, 3, 13, 18]).ints("kernel_shape", &[3, 4])).agrees(NEAR).await;
        }
    }
}

#[tokio::test]
async fn pools_go_over_lines_and_planes() {
    for ceil in [0, 1] {
        for counted in [0, 1] {
            let pool = node("AveragePool").seeded(&[2, 3, 14, 17]).ints("kernel_shape", &[3, 3]).opset(19);
            let pool = pool.ints("strides", &[2, 3]).ints("pads", &[1, 1, 1, 1]);
            let pool = pool.int("ceil_mode", ceil).int("count_include_pad", counted);
            if ceil == 1 && counted == 1 {
                pool.refused("beyond the padding");
            } else {
                pool.agrees(NEAR).await;
            }
        }
        let pool =
            node("MaxPool").seeded(&[2, 3, 14, 17]).ints("kernel_shape", &[3, 2]).ints("dilations", &[2, 1]);
        pool.ints("strides", &[2, 3]).ints("pads", &[1, 0, 1, 1]).int("ceil_mode", ceil).agrees(NEAR).await;
        let line = node("MaxPool").seeded(&[2, 3, 14]).ints("kernel_shape", &[3]).ints("strides", &[2]);
        line.int("ceil_mode", ceil).agrees(NEAR).await;
    }
    node("GlobalAveragePool").seeded(&[2, 3, 5, 7]).agrees(NEAR).await;
    node("GlobalMaxPool").seeded(&[2, 3, 17]).agrees(NEAR).await;
    node("MaxPool").seeded(&[1, 1, 4]).ints("kernel_shape", &[2]).outputs(&[true, true]).refused("places");
}
