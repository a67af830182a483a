//! What kind of work an operator is.

use crate::{
    domain::OperatorClass,
    onnx::{check::standard, proto::NodeProto},
};

pub(super) fn class(node: &NodeProto) -> OperatorClass {
    match standard(&node.domain) {
        "" => of_standard(&node.op_type),
        "com.microsoft" => of_microsoft(&node.op_type),
        _ => OperatorClass::Other,
    }
}

fn of_standard(operator: &str) -> OperatorClass {
    match operator {
        "MatMul" | "Gemm" | "MatMulInteger" | "QLinearMatMul" | "Einsum" => OperatorClass::MatMul,
        "Conv" | "ConvInteger" | "ConvTranspose" | "QLinearConv" | "DeformConv" | "MaxPool"
        | "AveragePool" | "LpPool" | "GlobalAveragePool" | "GlobalMaxPool" | "GlobalLpPool" => {
            OperatorClass::Conv
        }
        "BatchNormalization"
        | "GroupNormalization"
        | "InstanceNormalization"
        | "LRN"
        | "LayerNormalization"
        | "LogSoftmax"
        | "LpNormalization"
        | "MeanVarianceNormalization"
        | "RMSNormalization"
        | "Softmax" => OperatorClass::Normalisation,
        "Attention" => OperatorClass::Attention,
        "LSTM" | "GRU" | "RNN" => OperatorClass::Recurrent,
        "Cast" | "CastLike" | "Compress" | "Concat" | "Constant" | "ConstantOfShape" | "DepthToSpace"
        | "Expand" | "EyeLike" | "Flatten" | "Gather" | "GatherElements" | "GatherND" | "Identity"
        | "NonZero" | "OneHot" | "Pad" | "Range" | "Reshape" | "Resize" | "ReverseSequence"
        | "ScatterElements" | "ScatterND" | "Shape" | "Size" | "Slice" | "SpaceToDepth" | "Split"
        | "Squeeze" | "Tile" | "Transpose" | "Trilu" | "Unsqueeze" | "Upsample" => OperatorClass::Movement,
        "If" | "Loop" | "Scan" | "NonMaxSuppression" | "TopK" | "Unique" => OperatorClass::Other,
        _ if operator.starts_with("Sequence") || operator.starts_with("Optional") => OperatorClass::Other,
        _ => OperatorClass::Elementwise,
    }
}

fn of_microsoft(operator: &str) -> OperatorClass {
    match operator {
        "FusedMatMul" | "MatMulNBits" | "FusedGemm" | "DynamicQuantizeMatMul" | "MatMulIntegerToFloat" => {
            OperatorClass::MatMul
        }
        "FusedConv" | "NhwcConv" | "NhwcFusedConv" | "QLinearGlobalAveragePool" => OperatorClass::Conv,
        "Attention" | "GroupQueryAttention" | "MultiHeadAttention" => OperatorClass::Attention,
        "SimplifiedLayerNormalization"
        | "SkipLayerNormalization"
        | "SkipSimplifiedLayerNormalization"
        | "EmbedLayerNormalization" => OperatorClass::Normalisation,
        "BiasGelu" | "FastGelu" | "Gelu" | "QuickGelu" | "RotaryEmbedding" => OperatorClass::Elementwise,
        _ => OperatorClass::Other,
    }
}
