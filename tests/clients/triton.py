"""What `tritonclient[http]` asks of a server, asked of weft at the address that is given.

The server has `neg`, which is `y = -x` of FP32[n, 4], and for each datatype a model of its name, which is `y = x`.
"""

import asyncio
import sys

import ml_dtypes
import numpy as np
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

ROWS = np.arange(8, dtype=np.float32).reshape(2, 4)

VALUES = {
    "BOOL": np.array([True, False]),
    "UINT8": np.array([0, 255], np.uint8),
    "UINT16": np.array([0, 65535], np.uint16),
    "UINT32": np.array([0, 2**32 - 1], np.uint32),
    "UINT64": np.array([0, 2**64 - 1], np.uint64),
    "INT8": np.array([-128, 127], np.int8),
    "INT16": np.array([-(2**15), 2**15 - 1], np.int16),
    "INT32": np.array([-(2**31), 2**31 - 1], np.int32),
    "INT64": np.array([-(2**63), 2**63 - 1], np.int64),
    "FP16": np.array([0.1, 65504], np.float16),
    "FP32": np.array([0.1, -3e38], np.float32),
    "FP64": np.array([0.1, -1e308], np.float64),
    "BF16": np.array([0.1, -3e38], ml_dtypes.bfloat16),
    "BYTES": np.array(["Straße".encode(), b""], np.object_),
}


def tensor(values: np.ndarray, datatype: str, binary: bool = True) -> triton.InferInput:
    return triton.InferInput("x", values.shape, datatype).set_data_from_numpy(values, binary_data=binary)


def refused(status: str, ask, *arguments, **named) -> str:
    try:
        ask(*arguments, **named)
    except InferenceServerException as error:
        assert error.status() == status, error
        return error.message()
    raise AssertionError(f"not refused with {status}")


def describes(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live() and client.is_server_ready()
    server = client.get_server_metadata()
    assert server["name"] == "weft", server
    for extension in ["binary_tensor_data", "model_repository", "schedule_policy", "statistics"]:
        assert extension in server["extensions"], server
    model = client.get_model_metadata("neg")
    assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}], model
    [version] = model["versions"]
    assert client.is_model_ready("neg") and client.is_model_ready("neg", version)
    assert client.get_model_metadata("neg", version) == model
    assert not client.is_model_ready("nobody") and not client.is_model_ready("neg", "1")


def infers(client: triton.InferenceServerClient) -> None:
    for binary_in in [False, True]:
        for outputs in [None, [triton.InferRequestedOutput("y", binary_data=False)], [triton.InferRequestedOutput("y")]]:
            result = client.infer("neg", [tensor(ROWS, "FP32", binary_in)], outputs=outputs, request_id="mine")
            np.testing.assert_array_equal(result.as_numpy("y"), -ROWS)
            response = result.get_response()
            assert response["id"] == "mine" and response["model_name"] == "neg", response
            assert response["parameters"]["provenance"]["backend"] == "ort-cpu", response
    version = response["model_version"]
    result = client.infer("neg", [tensor(ROWS, "FP32")], model_version=version, priority=1, timeout=5_000_000)
    np.testing.assert_array_equal(result.as_numpy("y"), -ROWS)
    pending = [client.async_infer("neg", [tensor(ROWS * n, "FP32")], request_id=str(n)) for n in range(20)]
    for n, asked in enumerate(pending):
        result = asked.get_result()
        assert result.get_response()["id"] == str(n)
        np.testing.assert_array_equal(result.as_numpy("y"), -ROWS * n)


def carries_every_datatype(client: triton.InferenceServerClient) -> None:
    for datatype, values in VALUES.items():
        for binary in [False, True]:
            if datatype == "BF16" and not binary:
                continue  # The client has no JSON for it.
            output = triton.InferRequestedOutput("y", binary_data=binary)
            result = client.infer(datatype.lower(), [tensor(values, datatype, binary)], outputs=[output])
            answer = result.as_numpy("y")
            wanted = values
            if datatype == "BYTES" and not binary:
                wanted = np.array([text.decode() for text in values], np.object_)
            assert answer.dtype == wanted.dtype, f"{datatype}: {answer.dtype}"
            np.testing.assert_array_equal(answer, wanted, err_msg=datatype)


def compresses(client: triton.InferenceServerClient) -> None:
    large = np.zeros((1000, 4), np.float32)
    for algorithm in ["gzip", "deflate"]:
        result = client.infer(
            "neg",
            [tensor(large, "FP32")],
            request_compression_algorithm=algorithm,
            response_compression_algorithm=algorithm,
        )
        np.testing.assert_array_equal(result.as_numpy("y"), large)
        message = refused("404", client.infer, "nobody", [tensor(large, "FP32")], response_compression_algorithm=algorithm)
        assert "nobody" in message, message


def is_told_what_is_wrong(client: triton.InferenceServerClient) -> None:
    x = [tensor(ROWS, "FP32")]
    cases = [
        ("404", "nobody", {"model_name": "nobody", "inputs": x}),
        ("404", "has no version", {"model_name": "neg", "inputs": x, "model_version": "7"}),
        ("422", "the model wants FP32", {"model_name": "neg", "inputs": [tensor(VALUES["INT8"], "INT8")]}),
        ("422", "the model wants [n, 4]", {"model_name": "neg", "inputs": [tensor(VALUES["FP32"], "FP32")]}),
        ("422", "no output", {"model_name": "neg", "inputs": x, "outputs": [triton.InferRequestedOutput("q")]}),
        ("400", "classification", {"model_name": "neg", "inputs": x, "outputs": [triton.InferRequestedOutput("y", class_count=3)]}),
        ("400", "colour", {"model_name": "neg", "inputs": x, "parameters": {"colour": "red"}}),
        ("503", "no lane offers", {"model_name": "neg", "inputs": x, "parameters": {"backend": "webgpu"}}),
        ("504", "time ran out", {"model_name": "neg", "inputs": x, "timeout": 1}),
    ]
    for status, says, request in cases:
        message = refused(status, client.infer, **request)
        assert says in message, f"{says}: {message}"


def counts(client: triton.InferenceServerClient) -> None:
    def of(model: str) -> dict:
        [stats] = client.get_inference_statistics(model)["model_stats"]
        return stats

    before = of("int8")
    for _ in range(3):
        client.infer("int8", [tensor(VALUES["INT8"], "INT8")])
    after = of("int8")
    assert after["inference_count"] == before["inference_count"] + 3, after
    success = after["inference_stats"]["success"]
    assert success["count"] == after["inference_count"] and success["ns"] > 0, after
    names = [stats["name"] for stats in client.get_inference_statistics()["model_stats"]]
    assert names == sorted(["neg", *(datatype.lower() for datatype in VALUES)]), names


def loads_and_unloads(client: triton.InferenceServerClient) -> None:
    def state(model: str) -> str:
        [entry] = [entry for entry in client.get_model_repository_index() if entry["name"] == model]
        return entry["state"]

    x = [tensor(VALUES["INT8"], "INT8")]
    client.unload_model("int8")
    assert not client.is_model_ready("int8") and state("int8") == "UNAVAILABLE"
    assert "unloaded" in refused("409", client.infer, "int8", x)
    client.load_model("int8")
    assert client.is_model_ready("int8") and state("int8") == "READY"
    client.infer("int8", x)
    refused("404", client.load_model, "nobody")
    refused("404", client.unload_model, "nobody")
    assert "config" in refused("400", client.load_model, "int8", config="{}")


async def serves_the_asynchronous_client(address: str) -> None:
    async with triton_aio.InferenceServerClient(address) as client:
        asked = [client.infer("neg", [tensor(ROWS * n, "FP32")]) for n in range(20)]
        for n, result in enumerate(await asyncio.gather(*asked)):
            np.testing.assert_array_equal(result.as_numpy("y"), -ROWS * n)


def main(url: str) -> None:
    address = url.removeprefix("http://")
    with triton.InferenceServerClient(address, concurrency=8) as client:
        for case in [
            describes,
            infers,
            carries_every_datatype,
            compresses,
            is_told_what_is_wrong,
            counts,
            loads_and_unloads,
        ]:
            case(client)
    asyncio.run(serves_the_asynchronous_client(address))


if __name__ == "__main__":
    main(sys.argv[1])
