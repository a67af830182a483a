"""Writes what is told of others' parts within the libraries, below .setup/licences, for the versions that are pinned.

    third_parties.py ONNXRUNTIME.whl DUCKDB.tar.gz    a wheel of onnxruntime and the source of duckdb, of PyPI

ONNX Runtime's packages for npm come without its notices, which its wheels have. DuckDB tells its parts by the licences in
its source alone.
"""

import re
import sys
import tarfile
import zipfile

from licences import TEXTS, libraries

NOTICES = "onnxruntime/ThirdPartyNotices.txt"
# Of what the library is built of; the folders' names are the parts'.
WITHIN = re.compile(r"[^/]+/external/duckdb/(?:extension/icu/)?third_party/([^/]+)/(?:[^/]+/)?(?:LICENSE|NOTICES)$")
# Beside them, within DuckDB's own folders.
OWN = re.compile(r"[^/]+/external/duckdb/src/include/duckdb/storage/compression/([^/]+)/algorithm/LICENSE$")
RULE = "-" * 100


def duckdb(source: str) -> str:
    texts = []
    with tarfile.open(source) as opened:
        for entry in sorted(opened.getmembers(), key=lambda entry: entry.name):
            if found := WITHIN.match(entry.name) or OWN.match(entry.name):
                text = opened.extractfile(entry).read().decode(errors="replace").strip()
                texts.append(f"{RULE}\n{found[1]}\n{RULE}\n\n{text}\n")
    return "\n".join(texts)


def main(wheel: str, source: str) -> None:
    versions = {part.name: part.version for part in libraries()}
    for path, name in ((wheel, "ONNX Runtime"), (source, "DuckDB")):
        if versions[name] not in path:
            raise SystemExit(f"third_parties: {path} is not of {name} {versions[name]}")
    with zipfile.ZipFile(wheel) as opened:
        notices = opened.read(NOTICES).decode(errors="replace").replace("\r\n", "\n").strip()
    for file, name, text in (("onnxruntime-parts.txt", "ONNX Runtime", notices), ("duckdb-parts.txt", "DuckDB", duckdb(source))):
        (TEXTS / file).write_text(f"Parts of others within {name} {versions[name]}\n\n{text.strip()}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
