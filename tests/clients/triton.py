"""What `tritonclient[http]` asks of a server, asked of weft at the address that is given."""

import sys

import tritonclient.http as triton


def main(url: str) -> None:
    client = triton.InferenceServerClient(url.removeprefix("http://"))
    assert client.is_server_live()
    assert client.is_server_ready()


if __name__ == "__main__":
    main(sys.argv[1])
