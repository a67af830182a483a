"""Owns the licence texts of the archive: every crate in the program, every npm package in its pages and the libraries
beside it, each text once below the names of what is under it.

    licences.py FILE [TEXTS]    writes them; TEXTS has those that packages come without (.setup/licences)

What has no text, and no licence of which the standard text is there, is named, and nothing is written.
"""

import json
import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from models import ROOT

TEXTS = ROOT / ".setup" / "licences"
PAGE = ROOT / "web-harness"
NATIVE = ROOT / ".setup" / "native"
# How packages call the files that hold them, beside sources of such names.
FILE = re.compile(r"(un)?licen[cs]e|copying|copyright|notice", re.IGNORECASE)
SOURCE = {".rs", ".js", ".mjs", ".ts", ".json", ".toml", ".py"}
# Texts that are in the repository of a package and not in the package.
KEPT = {
    "const-str": "const-str.txt",
    "DuckDB": "duckdb.txt",
    "duckdb": "duckdb-rs.txt",
    "ONNX Runtime": "onnxruntime.txt",
    "onnxruntime-common": "onnxruntime.txt",
    "onnxruntime-web": "onnxruntime.txt",
}
# Of what the libraries have of others.
PARTS = {"DuckDB": "duckdb-parts.txt", "ONNX Runtime": "onnxruntime-parts.txt"}
STANDARD = "the package has no text of its licence; this is the standard one, with the authors that it names"


@dataclass
class Part:
    name: str
    version: str
    licence: str
    authors: str
    texts: list[str]

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def output(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def target() -> str:
    lines = output("rustc", "--version", "--verbose").splitlines()
    return next(line.removeprefix("host: ") for line in lines if line.startswith("host: "))


def read(file: Path) -> str:
    return file.read_text(errors="replace").strip()


def texts(folder: Path) -> list[str]:
    """Those beside a package's manifest, or in a folder there."""
    found = sorted(path for path in folder.iterdir() if FILE.match(path.name) and path.suffix not in SOURCE)
    files = [file for path in found for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    return [read(file) for file in files if file.is_file()]


def crates() -> list[Part]:
    """All that the program's crate depends on, but for its tests and its build's own script."""
    told = json.loads(output("cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target()))
    packages = {package["id"]: package for package in told["packages"]}
    nodes = {node["id"]: node["deps"] for node in told["resolve"]["nodes"]}
    reached, left = set(), [told["resolve"]["root"]]
    while left:
        crate = left.pop()
        if crate not in reached:
            reached.add(crate)
            left += [dep["pkg"] for dep in nodes[crate] if any(kind["kind"] is None for kind in dep["dep_kinds"])]
    parts = []
    for package in (packages[crate] for crate in reached if packages[crate]["source"]):
        folder = Path(package["manifest_path"]).parent
        named = [read(folder / package["license_file"])] if package["license_file"] else []
        authors = ", ".join(package["authors"])
        parts.append(
            Part(package["name"], package["version"], package["license"] or "", authors, texts(folder) + named)
        )
    return parts


def modules() -> list[Part]:
    """What may be in the pages: all that npm installs but for development alone."""
    locked = json.loads((PAGE / "package-lock.json").read_text())["packages"]
    parts = []
    for path, package in locked.items():
        if path and not package.get("dev"):
            name = path.rpartition("node_modules/")[2]
            author = json.loads((PAGE / path / "package.json").read_text()).get("author", "")
            author = author.get("name", "") if isinstance(author, dict) else author
            parts.append(Part(name, package["version"], package.get("license", ""), author, texts(PAGE / path)))
    return parts


def libraries() -> list[Part]:
    pinned = json.loads((NATIVE / "package.json").read_text())
    duckdb = next(version for name, version in pinned["optionalDependencies"].items() if name.startswith("@duckdb/"))
    ort = pinned["dependencies"]["onnxruntime-node"]
    return [
        Part("DuckDB", duckdb.partition("-")[0], "MIT", "", []),
        Part("ONNX Runtime", ort, "MIT", "", []),
    ]


def parts() -> list[Part]:
    """What is linked into the program, bundled into its pages, or lies beside it."""
    return sorted([*crates(), *modules(), *libraries()], key=str)


def within(part: Part, folder: Path) -> list[str]:
    """What a library has of others, as .setup/third_parties.py has written it of this version."""
    if part.name not in PARTS:
        return []
    text = read(folder / PARTS[part.name])
    if text.partition("\n")[0] != f"Parts of others within {part}":
        raise SystemExit(f"licences: {PARTS[part.name]} is not of {part}: .setup/third_parties.py writes it anew")
    return [text]


def found(part: Part, folder: Path) -> list[str]:
    """A part's texts, where need be as they are kept in the folder."""
    if part.texts:
        return part.texts
    kept = folder / KEPT.get(part.name, "-")
    if kept.is_file():
        return [read(kept), *within(part, folder)]
    for licence in re.split(r" OR | ?/ ?", part.licence):
        # The repository's own has the one that names nobody.
        standard = ROOT / "LICENSE" if licence == "Apache-2.0" else folder / f"{licence}.txt"
        if standard.is_file():
            authors = part.authors or f"the authors of {part.name}"
            return [f"({STANDARD})\n\n{read(standard).replace('{authors}', authors)}"]
    return []


def joined(whole: list[tuple[Part, list[str]]]) -> str:
    """Each text once, however its lines are broken."""
    under, first = defaultdict(list), {}
    for part, its in whole:
        for text in its:
            words = " ".join(text.split())
            first.setdefault(words, text)
            under[words].append(str(part))
    rule = "=" * 100
    heads = ("\n".join(dict.fromkeys(names)) for names in under.values())
    return "\n".join(f"{rule}\n{head}\n{rule}\n\n{text}\n" for head, text in zip(heads, first.values()))


def main(file: str, folder: str = str(TEXTS)) -> None:
    whole = [(part, found(part, Path(folder))) for part in parts()]
    if missing := [f"  {part}: {part.licence or 'no licence is named'}" for part, its in whole if not its]:
        raise SystemExit("\n".join(["licences: there is no text of", *missing]))
    Path(file).write_text(joined(whole))


if __name__ == "__main__":
    main(*sys.argv[1:])
