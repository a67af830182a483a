"""What the `onnx` package's checker and its shape inference say of every graph in the folder that is given."""

import sys
from pathlib import Path

import onnx
from onnx import checker, shape_inference


def main(folder: str) -> None:
    paths = sorted(Path(folder).glob("*.onnx"))
    assert paths, folder
    for path in paths:
        model = onnx.load(path)
        checker.check_model(model, full_check=True)
        inferred = shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        # What flows between nodes has a type and a rank everywhere, not only where it leaves the graph.
        typed = {value.name for value in [*inferred.graph.value_info, *inferred.graph.output]
                 if value.type.tensor_type.HasField("shape")}
        untyped = [output for node in inferred.graph.node for output in node.output if output not in typed]
        assert not untyped, f"{path.name}: {untyped}"
        # Every operator is the standard's.
        assert {node.domain for node in model.graph.node} == {""}, path.name


if __name__ == "__main__":
    main(sys.argv[1])
