"""Owns the Python packages of the clients that the tests try weft with: a virtual environment in the cache.

Its name is the digest of what `tests/clients/requirements.txt` locks, so that `tests/clients` finds exactly that, and
versions of the lock never meet in one folder.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from models import ROOT, cache_dir, digest

LOCK = ROOT / "tests" / "clients" / "requirements.txt"


def main() -> None:
    target = cache_dir() / "clients" / digest(LOCK.read_bytes())[:16]
    if target.is_dir():
        print(f"setup: clients for the tests are in {target}")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that it is there whole or not at all; only its interpreter is called by path.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".incoming-") as scratch:
        made = Path(scratch) / "venv"
        subprocess.run([sys.executable, "-m", "venv", made], check=True)
        pip = [made / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--only-binary", ":all:", "--require-hashes", "--requirement", LOCK], check=True)
        try:
            made.rename(target)
        except OSError:
            # Another setup that ran at the same time has put the same packages there.
            if not target.is_dir():
                raise
    print(f"setup: brought clients for the tests into {target}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"setup: clients: {error}")
