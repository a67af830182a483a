"""Exports a model by torch.onnx.export, and writes down what PyTorch answers, so that whoever runs it can compare.

Run by weft as `python3 -I export.py MODEL_FOLDER OUTPUT_FOLDER`. Nothing of the model's own code is run, and only
safetensors are read.
"""

import inspect
import json
import sys
from pathlib import Path

import torch
import transformers

OPSET = 17
TYPES = {torch.float32: "FP32", torch.int64: "INT64", torch.bool: "BOOL"}


def sample(model, batch: int, length: int) -> dict:
    """Inputs of a size, the same each time."""
    random = torch.Generator().manual_seed(batch * 1000 + length)
    config, main = model.config, model.main_input_name
    if main == "input_ids" and not getattr(config, "is_encoder_decoder", False):
        # The lowest numbers are those of padding and its like.
        low = min(10, config.vocab_size - 1)
        inputs = {"input_ids": torch.randint(low, config.vocab_size, (batch, length), generator=random)}
        if "attention_mask" in inspect.signature(model.forward).parameters:
            inputs["attention_mask"] = torch.ones(batch, length, dtype=torch.int64)
        return inputs
    if main == "pixel_values":
        size = config.image_size
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        return {main: torch.randn(batch, getattr(config, "num_channels", 3), height, width, generator=random)}
    if main == "input_values":
        return {main: torch.randn(batch, 4000 + 400 * length, generator=random)}
    raise SystemExit(f"models that take {main} are not exported: only texts, pictures and sound for one graph")


class Flat(torch.nn.Module):
    """The model with its inputs in order and its outputs as a tuple of tensors."""

    def __init__(self, model, names):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *values):
        return tuple(tensors(self.model(**dict(zip(self.names, values)), return_dict=True)).values())


def tensors(outputs) -> dict:
    return {name: value for name, value in outputs.items() if isinstance(value, torch.Tensor)}


def told(tensor) -> dict:
    return {"datatype": TYPES[tensor.dtype], "shape": list(tensor.shape), "data": tensor.flatten().tolist()}


def axes(small: dict, large: dict, batches: tuple) -> dict:
    """Names for the dimensions that differ between two samples, the same name for the same pair of sizes."""
    found, names = {}, {batches: "batch"}
    for name, tensor in small.items():
        for axis, pair in enumerate(zip(tensor.shape, large[name].shape)):
            if pair[0] != pair[1]:
                found.setdefault(name, {})[axis] = names.setdefault(pair, f"size_{len(names)}")
    return found


def main() -> None:
    source, target = sys.argv[1], Path(sys.argv[2])
    config = transformers.AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    named = (config.architectures or ["AutoModel"])[0]
    kind = getattr(transformers, named, None)
    if kind is None:
        raise SystemExit(f"transformers {transformers.__version__} has no {named}")
    model = kind.from_pretrained(source, local_files_only=True, use_safetensors=True, torch_dtype=torch.float32).eval()
    model.config.use_cache = False
    with torch.no_grad():
        small, large = sample(model, 2, 7), sample(model, 3, 11)
        names = list(small)
        # The exporter brings a module back to the mode that it was in.
        flat = Flat(model, names).eval()
        answers = [tensors(model(**inputs, return_dict=True)) for inputs in (small, large)]
        options = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
        torch.onnx.export(
            flat,
            tuple(small.values()),
            str(target / "model.onnx"),
            input_names=names,
            output_names=list(answers[0]),
            dynamic_axes=axes(small | answers[0], large | answers[1], (2, 3)),
            opset_version=OPSET,
            **options,
        )
        other = [sample(model, 1, 5), large]
        expected = [tensors(model(**inputs, return_dict=True)) for inputs in other]
    check = {
        "converter": f"torch.onnx.export {torch.__version__}",
        "inputs": [{name: told(tensor) for name, tensor in inputs.items()} for inputs in other],
        "outputs": [{name: told(tensor) for name, tensor in outputs.items()} for outputs in expected],
    }
    (target / "check.json").write_text(json.dumps(check), encoding="utf-8")


main()
