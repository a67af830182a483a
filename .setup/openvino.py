"""Owns the ONNX Runtime that computes on OpenVINO: takes its libraries out of PyPI's wheel, which is checked by digest.

The wheel is downloaded and read, never installed; nothing of Python's in it is run.
"""

import os
import platform
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import wheels
from models import ROOT, cache_dir, digest

LOCK = ROOT / ".setup" / "openvino.txt"
WHEEL = ("--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--platform", "manylinux_2_28_x86_64")
TERMS = {"LICENSE", "ThirdPartyNotices.txt"}


def wanted(name: PurePosixPath) -> bool:
    library = name.parent.name == "capi" and ".so" in name.suffixes and "cpython" not in name.name
    return library or (name.parent == PurePosixPath("onnxruntime") and name.name in TERMS)


def unpack(wheel: Path, folder: Path) -> None:
    kept = {}
    with zipfile.ZipFile(wheel) as opened:
        for name in map(PurePosixPath, opened.namelist()):
            if not wanted(name):
                continue
            content = opened.read(str(name))
            # A wheel has no links, so that one library lies there under each of its names.
            if same := kept.get(digest(content)):
                os.link(same, folder / name.name)
            else:
                (folder / name.name).write_bytes(content)
                kept[digest(content)] = folder / name.name


def main() -> None:
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        print(f"setup: OpenVINO is taken from a wheel for Linux on x86-64, and this is {sys.platform} on {platform.machine()}")
        return
    name = "-".join(wheels.locked(LOCK))
    wheels.bring(name, LOCK, cache_dir() / "native" / name, unpack, WHEEL)


if __name__ == "__main__":
    try:
        main()
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"setup: OpenVINO: {error}")
