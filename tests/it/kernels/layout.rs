//! Operators that say where elements lie, and that take them by index.

use weft::domain::Datatype::{Bool, Fp32, Int32, Int64};

use super::{Case, case, compare};

#[tokio::test]
async fn other_shapes() {
    compare(|n| {
        let m = n as i64;
        vec![
            case("Reshape").floats(&[n, 6]).numbers(&[2, -1, 3]),
            case("Reshape").floats(&[2, n, 3]).numbers(&[0, 3, -1]),
            case("Squeeze").floats(&[1, n, 1]).numbers(&[0]),
            case("Squeeze").floats(&[1, n, 1]).ints("axes", &[2]).opset(11),
            case("Unsqueeze").floats(&[n, 2]).numbers(&[-1, 0]),
            case("Flatten").floats(&[2, n, 3]).int("axis", 2),
            case("Transpose").floats(&[2, n, 3]),
            case("Transpose").floats(&[2, n, 3, 5]).ints("perm", &[0, 2, 1, 3]),
            case("Expand").floats(&[n, 1]).numbers(&[2, 1, 3]),
            case("Tile").floats(&[n, 2]).numbers(&[2, 3]),
            case("Concat").floats(&[2, n]).floats(&[2, 3]).floats(&[2, n]).int("axis", 1),
            case("Concat").floats(&[n, 2]).floats(&[3, 2]).int("axis", 0),
            case("Split").floats(&[2, n + 3]).numbers(&[3, m]).int("axis", 1).makes(&[Fp32; 2]),
            case("Split").floats(&[3 * n, 2]).makes(&[Fp32; 3]),
            case("Split")
                .floats(&[2, 3 * n])
                .int("axis", 1)
                .int("num_outputs", 3)
                .opset(18)
                .makes(&[Fp32; 3]),
            case("Slice")
                .floats(&[3, n])
                .numbers(&[0, 0])
                .numbers(&[2, i64::MAX])
                .numbers(&[0, 1])
                .numbers(&[1, 2]),
            case("Slice").floats(&[3, n]).numbers(&[-1]).numbers(&[i64::MIN]).numbers(&[1]).numbers(&[-2]),
            case("Slice").floats(&[3, n]).ints("starts", &[1]).ints("ends", &[3]).ints("axes", &[0]).opset(9),
            case("DepthToSpace").floats(&[1, 12, n, 2]).int("blocksize", 2),
            case("DepthToSpace").floats(&[1, 12, n, 2]).int("blocksize", 2).word("mode", "CRD"),
            case("SpaceToDepth").floats(&[1, 3, 2 * n, 4]).int("blocksize", 2),
            case("Trilu").floats(&[2, n, 7]),
            case("Trilu").floats(&[2, 7, n]).number(-1).int("upper", 0),
            case("Shape").floats(&[2, n]).makes(&[Int64]),
            case("Size").floats(&[2, n]).makes(&[Int64]),
            case("EyeLike").floats(&[n, 5]).int("k", 1),
            case("Range").number(3).number(3 + m * 2).number(2).makes(&[Int64]),
            case("Range").number(0).wholes_in(Int64, &[], m, m + 1).number(1).makes(&[Int64]),
            case("Range").real(0.0).real(n as f32).real(0.5),
            case("ConstantOfShape").numbers(&[2, m]),
        ]
    })
    .await;
}

#[tokio::test]
async fn what_is_beside_a_tensor() {
    compare(|n| {
        let wide = n + 4;
        vec![
            case("Pad").floats(&[2, n]).numbers(&[0, 1, 1, 3]).real(1.5),
            case("Pad").floats(&[2, n]).numbers(&[1, 0, 0, 2]).word("mode", "edge"),
            case("Pad").floats(&[3, wide]).numbers(&[2, 3, 1, 4]).word("mode", "reflect"),
            case("Pad")
                .floats(&[2, wide])
                .numbers(&[1, 4])
                .absent()
                .numbers(&[1])
                .word("mode", "wrap")
                .opset(19),
            case("Pad").floats(&[3, wide]).numbers(&[1, -2, 0, -1]),
            case("Pad").floats(&[2, n]).ints("pads", &[0, 1, 2, 0]).float("value", -1.0).opset(10),
        ]
    })
    .await;
}

fn resized(n: u64, mode: &str, coordinates: &str, sizes: &[i64]) -> Case {
    let case = case("Resize").floats(&[1, 2, n + 1, 3]).absent().absent().numbers(sizes);
    // ONNX Runtime finds places in 32 bits, which are off by some 1e-4 at the thousandth.
    case.word("mode", mode).word("coordinate_transformation_mode", coordinates).within(1e-3)
}

#[tokio::test]
async fn other_sizes() {
    compare(|n| {
        let m = n as i64;
        let mut cases = Vec::new();
        for mode in ["nearest", "linear", "cubic"] {
            for coordinates in ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"] {
                cases.push(resized(n, mode, coordinates, &[1, 2, 2 * m + 2, 6]));
                cases.push(resized(n, mode, coordinates, &[1, 2, m + 3, 2]));
            }
        }
        cases.push(
            case("Upsample")
                .opset(9)
                .floats(&[1, 2, n, 3])
                .given(
                    Fp32,
                    &[4],
                    [1f32, 1.0, 2.0, 3.0].iter().flat_map(|scale| scale.to_le_bytes()).collect(),
                )
                .constant(),
        );
        cases
    })
    .await;
}

#[tokio::test]
async fn elements_by_their_indices() {
    compare(|n| {
        let m = n as i64;
        vec![
            case("Gather").floats(&[n, 3]).wholes_in(Int64, &[2, 5], -m, m),
            case("Gather").floats(&[2, n, 3]).wholes_in(Int32, &[7], 0, m).int("axis", 1),
            case("Gather").floats(&[2, n]).number(-1).int("axis", 1),
            case("Gather").floats(&[2, n]).numbers(&[0, m - 1, 0]).int("axis", 1),
            case("Gather").flags(&[n, 3]).wholes_in(Int64, &[5], 0, m).makes(&[Bool]),
            case("GatherElements").floats(&[2, n, 3]).wholes_in(Int64, &[2, 4, 2], -m, m).int("axis", 1),
            case("GatherElements").floats(&[n, 3]).wholes_in(Int64, &[n, 5], 0, 3).int("axis", 1),
            case("GatherND").floats(&[n, 3, 2]).wholes_in(Int64, &[4, 2], 0, m.min(3)),
            case("GatherND").floats(&[2, n, 3]).wholes_in(Int64, &[2, 4, 1], -m, m).int("batch_dims", 1),
            case("ScatterND").floats(&[n, 3]).numbers(&[m - 1]).floats(&[3]),
            case("ScatterElements")
                .floats(&[n, 3])
                .wholes_in(Int64, &[1, 3], 0, m)
                .constant()
                .floats(&[1, 3])
                .int("axis", 0),
            case("OneHot").wholes_in(Int64, &[2, n], -9, 9).number(7).floats(&[2]).constant(),
            case("OneHot").wholes_in(Int64, &[2, n], 0, 9).number(7).floats(&[2]).constant().int("axis", 1),
        ]
    })
    .await;
}
