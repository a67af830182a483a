"""Writes ONNX's own tests of single operators below the folder that is given: `NAME.onnx`, and in `NAME.json` what goes in
and what comes out, with bytes in base64. A test of anything but tensors of the Open Inference Protocol is named in
`left-out.json`.
"""

import base64
import json
import sys
import warnings
from pathlib import Path

import numpy
from onnx.backend.test.case.node import collect_testcases

DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "bfloat16": "BF16",
}


def tensor(name: str, value) -> dict:
    """Raises `KeyError` for what is no such tensor."""
    if not isinstance(value, (numpy.ndarray, numpy.generic)):
        raise KeyError(type(value).__name__)
    value = numpy.asarray(value)
    data = base64.b64encode(numpy.ascontiguousarray(value).tobytes()).decode()
    return {"name": name, "datatype": DATATYPES[value.dtype.name], "shape": list(value.shape), "data": data}


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    left_out = {}
    for case in collect_testcases():
        graph = case.model.graph
        try:
            inputs, outputs = case.data_sets[0]
            told = {
                "inputs": [tensor(port.name, value) for port, value in zip(graph.input, inputs)],
                "outputs": [tensor(port.name, value) for port, value in zip(graph.output, outputs)],
                "rtol": case.rtol,
                "atol": case.atol,
            }
        except KeyError as kind:
            left_out[case.name] = str(kind)
            continue
        (folder / f"{case.name}.onnx").write_bytes(case.model.SerializeToString())
        (folder / f"{case.name}.json").write_text(json.dumps(told))
    (folder / "left-out.json").write_text(json.dumps(left_out))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
