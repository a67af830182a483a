"""The peer: a model behind FastAPI and onnxruntime, written as their documentation has it.

    serve.py MODEL

It prints where it listens, and takes and gives the JSON form of the Open Inference Protocol.
"""

import socket
import sys

import numpy
import onnxruntime
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

TYPES = {"FP32": numpy.float32, "INT32": numpy.int32, "INT64": numpy.int64}
NAMES = {"float32": "FP32", "int32": "INT32", "int64": "INT64"}

app = FastAPI()
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]


class Tensor(BaseModel):
    name: str
    datatype: str
    shape: list[int]
    data: list


class Request(BaseModel):
    inputs: list[Tensor]


class Answer(BaseModel):
    outputs: list[Tensor]


@app.post("/infer")
def infer(request: Request) -> Answer:
    feeds = {t.name: numpy.array(t.data, dtype=TYPES[t.datatype]).reshape(t.shape) for t in request.inputs}
    outputs = zip(names, session.run(None, feeds))
    return Answer(
        outputs=[
            Tensor(name=name, datatype=NAMES[value.dtype.name], shape=value.shape, data=value.ravel().tolist())
            for name, value in outputs
        ]
    )


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(app, log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[listener])
