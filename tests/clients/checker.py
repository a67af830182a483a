"""What the `onnx` package's checker and its shape inference say of every graph below the folder that is given, and whether
`onnxruntime` answers what weft has answered: beside each `NAME.onnx` lies `NAME.json` with weft's inputs and outputs.
"""

import json
import sys
from pathlib import Path

import numpy
import onnx
import onnxruntime
from onnx import checker, shape_inference

# Of an output's largest value: two versions of one engine add in the same order, or nearly.
TOLERANCE = 1e-5
TYPES = {"FP32": numpy.float32, "FP16": numpy.float16, "INT64": numpy.int64, "INT32": numpy.int32, "BOOL": numpy.bool_}


def nodes(graph):
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                yield from nodes(inner)


def check(path: Path, model) -> bool:
    """The format's rules; shapes too where every operator is the standard's, which the answer says."""
    domains = {node.domain for node in nodes(model.graph)}
    standard = domains == {""}
    checker.check_model(str(path), full_check=standard)
    if not standard:
        # Blocks of few bits are ONNX Runtime's own: of those the package knows no shape.
        assert domains == {"", "com.microsoft"}, f"{path.name}: {domains}"
        return False
    inferred = shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    # What flows between nodes has a type and a rank everywhere, not only where it leaves the graph.
    typed = {value.name for value in [*inferred.graph.value_info, *inferred.graph.output]
             if value.type.tensor_type.HasField("shape")}
    untyped = [output for node in inferred.graph.node for output in node.output if output and output not in typed]
    assert not untyped, f"{path.name}: {untyped}"
    return True


def tensors(said: list) -> dict:
    read = {}
    for tensor in said:
        read[tensor["name"]] = numpy.array(tensor["data"], TYPES[tensor["datatype"]]).reshape(tensor["shape"])
    return read


def difference(name: str, wanted, got) -> float:
    assert (wanted.dtype, wanted.shape) == (got.dtype, got.shape), f"{name}: {got.dtype} {got.shape}"
    if wanted.dtype.kind != "f":
        assert (wanted == got).all(), name
        return 0.0
    wanted, got = wanted.astype(numpy.float64), got.astype(numpy.float64)
    assert numpy.isfinite(got).all(), name
    largest = abs(wanted).max(initial=0.0)
    return abs(wanted - got).max(initial=0.0) / largest if largest else abs(got).max(initial=0.0)


def run(path: Path) -> float:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for case in json.loads(path.with_suffix(".json").read_text()):
        wanted = tensors(case["outputs"])
        answers = session.run(list(wanted), tensors(case["inputs"]))
        for (name, value), answer in zip(wanted.items(), answers):
            worst = max(worst, difference(f"{path.name}: {name}", value, answer))
    assert worst <= TOLERANCE, f"{path.name}: {worst:.1e}"
    return worst


def main(folder: str) -> None:
    paths = sorted(Path(folder).rglob("*.onnx"))
    assert paths, folder
    standard, worst = 0, (0.0, "")
    for path in paths:
        # Checked as a file, so that weights beside it are found, and read whole for its shapes.
        standard += check(path, onnx.load(path))
        worst = max(worst, (run(path), path.name))
    print(f"{len(paths)} graphs, {standard} of them in full; {worst[0]:.1e} at most, by {worst[1]}")


if __name__ == "__main__":
    main(sys.argv[1])
