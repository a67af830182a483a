//! Operators that make one number of many, softmax, and running sums.

use weft::domain::Datatype::Int64;

use super::{case, compare};

#[tokio::test]
async fn one_number_of_many() {
    let names = [
        "ReduceMean",
        "ReduceMax",
        "ReduceMin",
        "ReduceSumSquare",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSumExp",
    ];
    compare(|n| {
        let mut cases = Vec::new();
        for name in names {
            for axes in [&[1][..], &[-1], &[0, 2], &[0, 1, 2]] {
                cases.push(case(name).floats(&[2, n, 3]).ints("axes", axes));
                cases.push(case(name).floats(&[2, n, 3]).ints("axes", axes).int("keepdims", 0));
            }
            cases.push(case(name).floats(&[n]));
            cases.push(case(name).floats(&[3, n]).numbers(&[1]).opset(18));
        }
        cases.extend([
            case("ReduceSum").floats_in(&[2, n, 3], 0.0, 1.0).numbers(&[1]),
            case("ReduceSum").floats_in(&[2, n, 3], 0.0, 1.0).numbers(&[0, 2]).int("keepdims", 0),
            case("ReduceSum").floats(&[2, n]).int("noop_with_empty_axes", 1),
            case("ReduceSum").wholes_in(Int64, &[2, n], -9, 9).numbers(&[1]).makes(&[Int64]),
            case("ReduceMax").wholes_in(Int64, &[2, n], -9, 9).ints("axes", &[1]).makes(&[Int64]),
            case("ReduceProd").floats_in(&[2, n], 0.99, 1.01).ints("axes", &[1]),
            case("ReduceLogSum").floats_in(&[2, n], 0.1, 1.0).ints("axes", &[1]),
            case("ArgMax").floats(&[2, n, 3]).int("axis", 1).makes(&[Int64]),
            case("ArgMax").floats(&[2, n]).int("axis", -1).int("keepdims", 0).makes(&[Int64]),
            case("ArgMin").floats(&[n, 3]).int("axis", 0).int("select_last_index", 1).makes(&[Int64]),
            case("ArgMax").wholes_in(Int64, &[2, n], 0, 9).int("axis", 1).makes(&[Int64]),
            case("ArgMin").wholes_in(Int64, &[2, n], 0, 9).int("axis", 1).int("keepdims", 0).makes(&[Int64]),
            case("LpNormalization").floats(&[3, n]).int("axis", 1).int("p", 2),
        ]);
        cases
    })
    .await;
}

#[tokio::test]
async fn shares_and_running_sums() {
    compare(|n| {
        vec![
            case("Softmax").floats(&[3, n]),
            case("Softmax").floats(&[2, n, 3]).int("axis", 1),
            case("Softmax").floats(&[2, n, 3]).int("axis", 1).opset(11),
            case("LogSoftmax").floats(&[2, n, 3]).int("axis", 1),
            case("LogSoftmax").floats(&[2, n, 3]).int("axis", 2).opset(11),
            case("CumSum").floats_in(&[2, n], 0.0, 1.0).number(1),
            case("CumSum").floats_in(&[2, n], 0.0, 1.0).number(1).int("exclusive", 1),
            case("CumSum").floats_in(&[n, 2], 0.0, 1.0).number(0).int("reverse", 1),
            case("CumSum")
                .wholes_in(Int64, &[n, 2], -9, 9)
                .number(0)
                .int("reverse", 1)
                .int("exclusive", 1)
                .makes(&[Int64]),
        ]
    })
    .await;
}
