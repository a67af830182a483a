"""Owns the compiler of the page's own kernels: Zig's C compiler, out of PyPI's wheel, which is checked by digest.

It is unpacked into the cache under its version, where the harness's build looks for it.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from models import ROOT, cache_dir

LOCK = ROOT / ".setup" / "zig.txt"


def locked() -> str:
    """The compiler's version, as its folder is called."""
    line = next(line for line in LOCK.read_text().splitlines() if not line.startswith("#"))
    return line.split()[0].partition("==")[2]


def main() -> None:
    version = locked()
    target = cache_dir() / "zig" / version
    if target.is_dir():
        print(f"setup: Zig {version} is in {target}")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that it is there whole or not at all.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".incoming-") as scratch:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        pinned = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--requirement", str(LOCK)]
        subprocess.run([*pip, *pinned, "--dest", scratch], check=True)
        with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
            wheel.extractall(scratch)
        filled = Path(scratch) / "ziglang"
        (filled / "zig").chmod(0o755)
        try:
            filled.rename(target)
        except OSError:
            # Another setup that ran at the same time has put the same files there.
            if not target.is_dir():
                raise
    print(f"setup: brought Zig {version} into {target}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"setup: Zig: {error}")
