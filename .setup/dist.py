"""Owns `make dist`: a folder that runs where it is unpacked, as one archive, beside it its SHA-256.

    dist.py [--fast] FOLDER [PROGRAM]    packs the release build, or this program, into
                                         FOLDER/weft-VERSION-PLATFORM.tar.xz; fast, and larger, for a test

The same program, sources and libraries make the same bytes: names are sorted, owners are nobody in particular, and
every file is as old as the last commit.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

import licences
from licences import output
from models import ROOT

LIBRARIES = ["libduckdb.so", "libonnxruntime.so.1"]
# What the suite roadmap-13 measures.
CONVERTED = ["bert", "clip", "llama", "qwen2", "t5", "vit", "wav2vec2", "whisper"]
EXPORTED = ["clap", "detr", "xclip"]
CHECKPOINTS = [f"checkpoints/{name}/{file}" for name in CONVERTED for file in ("config.json", "model.safetensors")]
CHECKPOINTS += [f"checkpoints/{name}/model.onnx" for name in EXPORTED]
# From the checkout into the archive: what suites, catalogues and recipes a user reads, copies or names.
SHARED = {
    "browsers": "share/weft/browsers",
    "fixtures/models.toml": "share/weft/models.toml",
    "fixtures/inputs/silero-vad.json": "share/weft/inputs/silero-vad.json",
    "fixtures/inputs/magika.json": "share/weft/inputs/magika.json",
    "fixtures/inputs/roadmap-13": "share/weft/inputs/roadmap-13",
    "fixtures/workloads": "share/weft/workloads",
    "docs": "share/doc/weft/docs",
    "README.md": "share/doc/weft/README.md",
    "CHANGELOG.md": "share/doc/weft/CHANGELOG.md",
    "LICENSE": "share/doc/weft/LICENSE",
} | {f"fixtures/{path}": f"share/weft/{path}" for path in CHECKPOINTS}


def release_build() -> str:
    metadata = json.loads(output("cargo", "metadata", "--format-version", "1", "--no-deps"))
    return f"{metadata['target_directory']}/release/weft"


def native_folder() -> Path:
    configured = tomllib.loads((ROOT / ".cargo" / "config.toml").read_text())
    return Path(configured["env"]["WEFT_NATIVE_DIR"])


def stage(program: Path, folder: Path) -> None:
    (folder / "bin").mkdir(parents=True)
    (folder / "lib").mkdir()
    weft = folder / "bin" / "weft"
    shutil.copy2(program, weft)
    subprocess.run(["strip", "--strip-debug", weft], check=True)
    # The folder that the build linked against is this machine's, and must be nobody's who unpacks it.
    subprocess.run(["patchelf", "--set-rpath", "$ORIGIN/../lib", weft], check=True)
    for library in LIBRARIES:
        shutil.copy(native_folder() / library, folder / "lib" / library)
    for source, place in SHARED.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        # What git does not know is nobody else's.
        for name in output("git", "ls-files", "--", source).splitlines():
            copy = path / Path(name).relative_to(source) if name != source else path
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy)
    told = folder / "share" / "doc" / "weft"
    (told / "PARTS.txt").write_text("".join(f"{part}: {part.licence}\n" for part in licences.parts()))
    licences.main(str(told / "LICENCES.txt"))


def pack(folder: Path, archive: Path, preset: int) -> None:
    age = int(output("git", "log", "-1", "--format=%ct"))

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mtime = age
        entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
        return entry

    partial = archive.with_name(f".{archive.name}.{os.getpid()}")
    with tarfile.open(partial, "w:xz", preset=preset) as opened:
        opened.add(folder, folder.name, filter=plain)
    partial.replace(archive)


def main(fast: bool, folder: str, program: str | None = None) -> None:
    program = str(Path(program or release_build()).resolve())
    if sys.platform != "linux":
        raise SystemExit("dist: only Linux has been packed so far")
    for tool, package in {"patchelf": "patchelf", "strip": "binutils"}.items():
        if not shutil.which(tool):
            raise SystemExit(f"dist: {tool} is missing: apt-get install {package}")
    version = output(program, "--version").split()[1]
    name = f"weft-{version}-linux-{platform.machine()}"
    Path(folder).mkdir(parents=True, exist_ok=True)
    archive = Path(folder) / f"{name}.tar.xz"
    with tempfile.TemporaryDirectory(dir=folder, prefix=".staging-") as scratch:
        staged = Path(scratch) / name
        stage(Path(program), staged)
        pack(staged, archive, preset=0 if fast else 6)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    archive.with_name(f"{archive.name}.sha256").write_text(f"{digest}  {archive.name}\n")
    print(f"dist: {archive} ({archive.stat().st_size >> 20} MiB, sha256 {digest})")


if __name__ == "__main__":
    given = sys.argv[1:]
    main("--fast" in given, *(word for word in given if word != "--fast"))
