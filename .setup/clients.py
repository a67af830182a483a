"""Owns the Python packages that weft is tried with and measured beside: virtual environments in the cache.

    clients.py tests    the clients of `tests/clients`
    clients.py bench    the peer of `make bench`
    clients.py torch    what the fixtures' checkpoints are made with and `make prove` exports with; PyTorch itself is
                        the system's

An environment's name is the digest of what its lock says, so that whoever uses it finds exactly that, and versions of
a lock never meet in one folder.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from models import ROOT, cache_dir, digest

TESTS = ROOT / "tests"
TORCH = "torch"
# By purpose: the folder in the cache, the lock, and what it brings.
ENVIRONMENTS = {
    "tests": ("clients", TESTS / "clients" / "requirements.txt", "clients for the tests"),
    "bench": ("peer", TESTS / "bench" / "peer" / "requirements.txt", "the bench's peer"),
    TORCH: ("torch", ROOT / "fixtures" / "checkpoints" / "requirements.txt", "PyTorch's companions"),
}


def has_torch(interpreter: str) -> bool:
    try:
        return subprocess.run([interpreter, "-I", "-c", "import torch"], capture_output=True).returncode == 0
    except OSError:
        return False


def interpreter(purpose: str) -> list:
    """The command that makes the environment: where PyTorch is wanted, that of a Python that has it."""
    if purpose != TORCH:
        return [sys.executable, "-m", "venv"]
    for found in (sys.executable, "/usr/bin/python3"):
        if has_torch(found):
            return [found, "-m", "venv", "--system-site-packages"]
    raise OSError("no Python here has PyTorch; Debian's is python3-torch")


def main(purpose: str) -> None:
    folder, lock, what = ENVIRONMENTS[purpose]
    target = cache_dir() / folder / digest(lock.read_bytes())[:16]
    if target.is_dir():
        print(f"setup: {what}: in {target}")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that it is there whole or not at all; only its interpreter is called by path.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".incoming-") as scratch:
        made = Path(scratch) / "venv"
        subprocess.run([*interpreter(purpose), made], check=True)
        pip = [made / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        # The lock is whole, and PyTorch, which it leaves to the system, is not to come from PyPI.
        locked = ["--only-binary", ":all:", "--no-deps", "--require-hashes", "--requirement", lock]
        subprocess.run([*pip, *locked], check=True)
        try:
            made.rename(target)
        except OSError:
            # Another setup that ran at the same time has put the same packages there.
            if not target.is_dir():
                raise
    print(f"setup: {what}: brought into {target}")


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"setup: clients: {error}")
