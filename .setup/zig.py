"""Owns the compiler of the page's own kernels: Zig's C compiler, out of PyPI's wheel.

It is unpacked into the cache under its version, where the harness's build looks for it.
"""

import subprocess
import sys
import zipfile
from pathlib import Path

import wheels
from models import ROOT, cache_dir

LOCK = ROOT / ".setup" / "zig.txt"


def unpack(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(folder.parent, [name for name in opened.namelist() if name.startswith("ziglang/")])
    folder.rmdir()
    (folder.parent / "ziglang").rename(folder)
    (folder / "zig").chmod(0o755)


def main() -> None:
    _, version = wheels.locked(LOCK)
    wheels.bring(f"Zig {version}", LOCK, cache_dir() / "zig" / version, unpack)


if __name__ == "__main__":
    try:
        main()
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"setup: Zig: {error}")
