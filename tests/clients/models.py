"""What the `openai` package asks of a server's models, asked of weft at the address that is given."""

import sys
import time

import openai


def raises(kind: type[openai.APIStatusError], ask) -> openai.APIStatusError:
    try:
        ask()
    except openai.APIStatusError as error:
        assert type(error) is kind, repr(error)
        return error
    raise AssertionError(f"no {kind.__name__}")


def main(url: str) -> None:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none is asked for", max_retries=0)

    models = client.models.list()
    assert models.object == "list", models
    assert [model.id for model in models] == ["neg"], models
    model = client.models.retrieve("neg")
    assert (model.id, model.object, model.owned_by) == ("neg", "model", "weft"), model
    assert abs(model.created - time.time()) < 600, model

    error = raises(openai.NotFoundError, lambda: client.models.retrieve("nothing"))
    assert error.code == "model_not_found", error.body
    assert error.type == "invalid_request_error", error.body
    assert "neg" in error.body["message"], error.body

    # Routes that are not there, and methods that a route does not take, are told in the same form.
    error = raises(openai.NotFoundError, lambda: client.files.list())
    assert "/v1/files" in error.body["message"], error.body
    error = raises(openai.APIStatusError, lambda: client.models.delete("neg"))
    assert error.status_code == 405, error
    assert error.type == "invalid_request_error", error.body


if __name__ == "__main__":
    main(sys.argv[1])
