"""Embeddings as a user would compute them: tokenizers, onnxruntime and numpy.

    embed.py MODEL TOKENIZER

Each line that it reads is a list of sentences; it answers each with their vectors, and in how many microseconds.
"""

import json
import sys
import time

import numpy
import onnxruntime
import tokenizers

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
names = [port.name for port in session.get_inputs()]
tokenizer = tokenizers.Tokenizer.from_file(sys.argv[2])
tokenizer.enable_truncation(256)
tokenizer.enable_padding()


def embed(sentences: list[str]) -> numpy.ndarray:
    encoded = tokenizer.encode_batch(sentences)
    mask = numpy.array([line.attention_mask for line in encoded], dtype=numpy.int64)
    feeds = {
        "input_ids": numpy.array([line.ids for line in encoded], dtype=numpy.int64),
        "attention_mask": mask,
        "token_type_ids": numpy.array([line.type_ids for line in encoded], dtype=numpy.int64),
    }
    hidden = session.run(None, {name: feeds[name] for name in names})[0]
    weights = mask[:, :, None].astype(numpy.float32)
    mean = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
    return mean / numpy.linalg.norm(mean, axis=1, keepdims=True)


for line in sys.stdin:
    sentences = json.loads(line)
    started = time.perf_counter()
    vectors = embed(sentences)
    took = time.perf_counter() - started
    print(json.dumps({"us": round(took * 1e6), "vectors": vectors.tolist()}), flush=True)
