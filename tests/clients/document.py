"""The document of weft at the address that is given: valid OpenAPI 3.1, and true.

weft there wants a key, which is the second argument; it must refuse whoever shows none or another.
"""

import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from openapi_spec_validator import OpenAPIV31SpecValidator

CONFIG = Path(__file__).with_name("schemathesis.toml")


def main(url: str, key: str) -> None:
    with urllib.request.urlopen(f"{url}/openapi.json", timeout=30) as answer:
        document = json.load(answer)
    assert document["openapi"].startswith("3.1."), document["openapi"]
    OpenAPIV31SpecValidator(document).validate()

    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", CONFIG, "run", f"{url}/openapi.json"]
    command += ["--header", f"Authorization: Bearer {key}"]
    # It keeps what failed in the folder where it runs, and would begin with that the next time.
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*command, "--no-color"], cwd=folder, timeout=240, capture_output=True, text=True, check=False
        )
    sys.stdout.write(done.stdout + done.stderr)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main(*sys.argv[1:])
