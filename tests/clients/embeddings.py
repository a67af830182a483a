"""What the `openai` package asks of a server that makes vectors, asked of weft at the address that is given.

Token `t` of the model has the vector `(t, 1)`, and a text's is the mean of its tokens', brought to length 1.
"""

import math
import sys

import openai

# "the cat sat on the mat" and " Unaffable, naïve Cats!", as the package tokenizers 0.23.3 has them from wordpiece.json.
SENTENCE = [2, 226, 314, 288, 260, 226, 318, 3]
ODD = [2, 497, 137, 168, 168, 137, 427, 14, 645, 444, 314, 139, 5, 3]


def vector(*tokens: int) -> list[float]:
    mean = sum(tokens) / len(tokens)
    length = math.hypot(mean, 1)
    return [mean / length, 1 / length]


def near(a: list[float], b: list[float]) -> bool:
    return len(a) == len(b) and all(abs(x - y) < 1e-6 for x, y in zip(a, b))


def refused(ask, says: str) -> None:
    try:
        ask()
    except openai.BadRequestError as error:
        assert error.type == "invalid_request_error" and says in error.body["message"], error.body
        return
    raise AssertionError(f"not refused: {says}")


def main(url: str) -> None:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none is asked for", max_retries=0)
    make = client.embeddings.create

    # The package asks for base64 by itself and decodes it.
    answer = make(model="lookup", input=[[5, 7], [9]])
    assert answer.object == "list" and answer.model == "lookup", answer
    assert [item.index for item in answer.data] == [0, 1], answer
    assert near(answer.data[0].embedding, vector(5, 7)), answer
    assert near(answer.data[1].embedding, vector(9)), answer
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 3, answer.usage

    floats = make(model="lookup", input=[[5, 7], [9]], encoding_format="float")
    assert all(near(a.embedding, b.embedding) for a, b in zip(floats.data, answer.data)), floats

    text = make(model="lookup", input="the cat sat on the mat", extra_body={"weft": {"backend": "ort-cpu"}})
    assert len(text.data) == 1 and near(text.data[0].embedding, vector(*SENTENCE)), text
    assert text.usage.prompt_tokens == len(SENTENCE), text.usage
    computed = text.model_extra["weft"]["computed"]
    assert computed[0]["provenance"]["backend"] == "ort-cpu", computed
    many = make(model="lookup", input=["the cat sat on the mat"] * 100, dimensions=2)
    assert all(near(item.embedding, text.data[0].embedding) for item in many.data), many.usage
    odd = make(model="lookup", input=" Unaffable, naïve Cats!")
    assert near(odd.data[0].embedding, vector(*ODD)) and odd.usage.prompt_tokens == len(ODD), odd

    refused(lambda: make(model="lookup", input="a", dimensions=1), "have 2 dimensions, not 1")
    refused(lambda: make(model="neg", input="a"), "give tensors instead")
    refused(lambda: make(model="lookup", input=[]), "there is no text")
    try:
        make(model="nothing", input="a")
    except openai.NotFoundError as error:
        assert error.code == "model_not_found", error.body
    else:
        raise AssertionError("a model that is not there")


if __name__ == "__main__":
    main(sys.argv[1])
