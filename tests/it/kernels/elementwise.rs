//! Operators that compute each element by itself.

use weft::domain::Datatype::{Bool, Fp32, Int8, Int32, Int64, Uint8};

use super::{case, compare};

#[tokio::test]
async fn functions_of_one_value() {
    let anywhere = [
        "Abs",
        "Neg",
        "Sign",
        "Exp",
        "Floor",
        "Ceil",
        "Round",
        "Sin",
        "Cos",
        "Atan",
        "Sinh",
        "Cosh",
        "Tanh",
        "Asinh",
        "Erf",
        "Sigmoid",
        "Softplus",
        "Relu",
        "LeakyRelu",
        "Elu",
        "Selu",
        "Celu",
        "HardSigmoid",
        "HardSwish",
        "ThresholdedRelu",
        "Softsign",
        "Shrink",
        "Identity",
        "Dropout",
    ];
    compare(|n| {
        let mut cases: Vec<_> = anywhere.iter().map(|name| case(name).floats(&[3, n])).collect();
        cases.extend(["Log", "Sqrt", "Reciprocal"].map(|name| case(name).floats_in(&[n, 3], 0.01, 9.0)));
        cases.extend(["Asin", "Acos", "Atanh", "Tan"].map(|name| case(name).floats_in(&[n], -0.9, 0.9)));
        cases.extend([
            case("Acosh").floats_in(&[n], 1.1, 9.0),
            case("LeakyRelu").floats(&[n]).float("alpha", 0.3),
            case("Elu").floats(&[n]).float("alpha", 0.7),
            case("Celu").floats(&[n]).float("alpha", 0.7),
            case("Selu").floats(&[n]).float("alpha", 1.5).float("gamma", 0.5),
            case("HardSigmoid").floats(&[n]).float("alpha", 0.4).float("beta", 0.3),
            case("Shrink").floats(&[n]).float("lambd", 1.5).float("bias", 0.5),
            case("Mish").floats(&[n]).opset(18),
            case("Gelu").floats(&[n]).opset(20),
            case("Gelu").floats(&[n]).word("approximate", "tanh").opset(20),
            case("Gelu").floats(&[n]).microsoft(),
            case("QuickGelu").floats(&[n]).microsoft(),
            case("FastGelu").floats(&[3, n]).microsoft(),
            case("FastGelu").floats(&[3, n]).floats(&[n]).microsoft(),
            case("BiasGelu").floats(&[3, n]).floats(&[n]).microsoft(),
            case("Not").flags(&[n]).makes(&[Bool]),
            case("IsNaN").floats(&[n]).makes(&[Bool]),
            case("IsInf").floats(&[n]).makes(&[Bool]),
            case("Abs").wholes_in(Int32, &[n], -100, 100).makes(&[Int32]),
            case("Neg").wholes_in(Int64, &[n], -100, 100).makes(&[Int64]),
            case("Sign").wholes_in(Int64, &[n], -3, 3).makes(&[Int64]),
            case("Relu").wholes_in(Int32, &[n], -100, 100).makes(&[Int32]),
        ]);
        cases
    })
    .await;
}

#[tokio::test]
async fn functions_of_several_values() {
    compare(|n| {
        let arithmetic = ["Add", "Sub", "Mul", "Div", "Max", "Min"];
        let comparing = ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"];
        let mut cases = Vec::new();
        for name in arithmetic {
            cases.push(case(name).floats(&[3, n]).floats_in(&[3, n], 1.0, 2.0));
            cases.push(case(name).floats(&[2, 1, n]).floats_in(&[5, 1], 1.0, 2.0));
            cases.push(case(name).floats(&[n]).real(1.5));
            cases.push(
                case(name).wholes_in(Int64, &[3, n], -50, 50).wholes_in(Int64, &[n], 1, 9).makes(&[Int64]),
            );
        }
        for name in comparing {
            cases.push(case(name).floats(&[3, n]).floats(&[n]).makes(&[Bool]));
            cases.push(case(name).wholes_in(Int64, &[n], 0, 4).wholes_in(Int64, &[n], 0, 4).makes(&[Bool]));
        }
        for name in ["And", "Or", "Xor"] {
            cases.push(case(name).flags(&[3, n]).flags(&[n]).makes(&[Bool]));
        }
        for name in ["Sum", "Mean", "Max", "Min"] {
            let many = (0..8).fold(case(name), |case, _| case.floats(&[3, n]));
            cases.push(many.floats(&[n]).floats(&[3, 1]));
        }
        cases.extend([
            case("Pow").floats_in(&[3, n], 0.1, 4.0).floats(&[n]),
            case("Pow").floats(&[n]).real(2.0),
            case("Pow").floats(&[n]).real(3.0),
            case("Pow").floats_in(&[n], 0.1, 4.0).real(0.5),
            case("Pow").wholes_in(Int64, &[n], -5, 5).wholes_in(Int64, &[n], 0, 4).makes(&[Int64]),
            case("Mod").wholes_in(Int64, &[n], -50, 50).wholes_in(Int64, &[n], 1, 7).makes(&[Int64]),
            case("Mod")
                .wholes_in(Int64, &[n], -50, 50)
                .wholes_in(Int64, &[n], 1, 7)
                .int("fmod", 1)
                .makes(&[Int64]),
            case("Mod").floats(&[n]).floats_in(&[n], 1.0, 2.0).int("fmod", 1),
            case("Where").flags(&[3, 1]).floats(&[3, n]).floats(&[n]),
            case("Where").flags(&[n]).floats(&[n]).real(-1.0),
            case("Clip").floats(&[n]).real(-1.0).real(0.5),
            case("Clip").floats(&[n]).absent().real(0.5),
            case("Clip").floats(&[n]).opset(6).float("min", -0.5).float("max", 0.25),
            case("PRelu").floats(&[2, n, 3]).floats(&[n, 1]),
            case("Cast").floats(&[n]).int("to", 7).makes(&[Int64]),
            case("Cast").floats(&[n]).int("to", 9).makes(&[Bool]),
            case("Cast").wholes_in(Int64, &[n], -9, 9).int("to", 1).makes(&[Fp32]),
            case("Cast").wholes_in(Int64, &[n], -900, 900).int("to", 2).makes(&[Uint8]),
            case("Cast").wholes_in(Int64, &[n], -900, 900).int("to", 3).makes(&[Int8]),
            case("Cast").wholes_in(Int64, &[n], -2, 2).int("to", 9).makes(&[Bool]),
            case("Cast").flags(&[n]).int("to", 1).makes(&[Fp32]),
            case("BatchNormalization").floats(&[2, n, 3]).floats(&[n]).floats(&[n]).floats(&[n]).floats_in(
                &[n],
                0.1,
                2.0,
            ),
        ]);
        cases
    })
    .await;
}

#[tokio::test]
async fn whole_numbers_for_floats() {
    compare(|n| {
        let quantized = |zero: i64| {
            case("QuantizeLinear")
                .floats(&[3, n])
                .real(0.037)
                .wholes_in(Uint8, &[], zero, zero + 1)
                .makes(&[Uint8])
        };
        vec![
            quantized(0),
            quantized(128),
            case("QuantizeLinear")
                .floats(&[3, n])
                .floats_in(&[n], 0.01, 0.1)
                .wholes_in(Int8, &[n], -9, 9)
                .makes(&[Int8]),
            case("DequantizeLinear").wholes_in(Uint8, &[3, n], 0, 256).real(0.1).wholes_in(
                Uint8,
                &[],
                100,
                101,
            ),
            case("DequantizeLinear")
                .wholes_in(Int8, &[3, n], -128, 128)
                .floats_in(&[3], 0.1, 1.0)
                .int("axis", 0),
            case("DequantizeLinear")
                .wholes_in(Int8, &[3, n], -128, 128)
                .floats_in(&[3], 0.1, 1.0)
                .wholes_in(Int8, &[3], -9, 9)
                .int("axis", 0),
            case("DynamicQuantizeLinear").floats(&[3, n]).makes(&[Uint8, Fp32, Uint8]),
            // On processors without instructions for them the library adds two products in 16 bits, which larger weights
            // would go beyond.
            case("MatMulInteger")
                .wholes_in(Uint8, &[3, n], 0, 256)
                .wholes_in(Int8, &[n, 5], -64, 64)
                .wholes_in(Uint8, &[], 128, 129)
                .wholes_in(Int8, &[5], -9, 9)
                .constant()
                .makes(&[Int32]),
            case("MatMulInteger")
                .wholes_in(Uint8, &[2, 3, n], 0, 256)
                .wholes_in(Uint8, &[n, 5], 0, 256)
                .makes(&[Int32]),
        ]
    })
    .await;
}
