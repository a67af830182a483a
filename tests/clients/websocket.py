"""A model asked over the WebSocket by the `websockets` package, as JSON and with tensors as bytes."""

import json
import struct
import sys

from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

X = [1.0, -2.0, 3.5, 0.0]
TENSOR = {"name": "x", "datatype": "FP32", "shape": [1, 4]}


def message(request: str, **more) -> dict:
    return {"type": "infer", "id": request, "model_name": "neg", **more}


def main(url: str) -> None:
    address = url.replace("http", "ws", 1)
    with connect(f"{address}/v2/ws") as socket:
        socket.send(json.dumps(message("text", inputs=[{**TENSOR, "data": X}])))
        reply = json.loads(socket.recv(timeout=30))
        assert (reply["type"], reply["id"]) == ("result", "text"), reply
        assert reply["outputs"][0]["data"] == [-x for x in X], reply
        assert reply["parameters"]["provenance"]["backend"] == "ort-cpu", reply

        body = struct.pack("<4f", *X)
        sized = {**TENSOR, "parameters": {"binary_data_size": len(body)}}
        asked = message("binary", inputs=[sized], parameters={"binary_data_output": True})
        header = json.dumps(asked).encode()
        socket.send(struct.pack("<I", len(header)) + header + body)
        frame = socket.recv(timeout=30)
        assert isinstance(frame, bytes), frame
        (length,) = struct.unpack_from("<I", frame)
        reply = json.loads(frame[4 : 4 + length])
        assert (reply["type"], reply["id"]) == ("result", "binary"), reply
        (output,) = reply["outputs"]
        assert output["parameters"]["binary_data_size"] == len(body), reply
        assert struct.unpack("<4f", frame[4 + length :]) == tuple(-x for x in X), reply

        # What is wrong is told, and the connection stays.
        socket.send(json.dumps({"type": "infer", "id": "bad", "model_name": "nothing", "inputs": []}))
        reply = json.loads(socket.recv(timeout=30))
        assert (reply["type"], reply["error"]["code"]) == ("error", "unknown_model"), reply
        socket.ping().wait(timeout=30)

    try:
        connect(f"{address}/v2/models")
    except InvalidStatus as error:
        assert error.response.status_code in (404, 405), error
    else:
        raise AssertionError("a route that is no WebSocket accepted one")


if __name__ == "__main__":
    main(sys.argv[1])
