"""`gsegkit new-plugin`: writes an installable plugin with a working trivial implementation and a contract test."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from gsegkit.errors import ConfigError, DataError, StorageError
from gsegkit.plugins import KIND_ALIASES

TEMPLATES = Path(__file__).parent / "templates"
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
#: Kinds that have a template -> what their `Component` record says beside names.
KINDS: Mapping[str, str] = {
    "generator": '\n            provides=("latent-grad", "masks"),',
    "extractor": "",
    "refiner": "",
    "segmenter": "",
    "evaluator": "",
    "generator-evaluator": "",
    "kmeans": "",
    "dataset": "",
    "checkpoint-reader": "",
}


def new_plugin(kind: str, name: str, folder: str | Path) -> Path:
    """Write a plugin that can be installed, tested and used as it is.

    Args:
        kind: a component kind, e.g. "extractor".
        name: the name on the command line, lower case with hyphens, e.g. "my-method".
        folder: where to write; must not exist, or be empty.

    Returns:
        The folder, with pyproject.toml, README.md, the package `gsegkit_<name>`, and tests/.

    Raises:
        ConfigError: no template for this kind, or a name that cannot be used.
        DataError: the folder is not empty, or is a file. Nothing was written.
        StorageError: the folder cannot be written.
    """
    kind, folder = KIND_ALIASES.get(kind, kind), Path(folder)
    if kind not in KINDS:
        raise ConfigError(f"there is no template for the kind '{kind}'", f"kinds: {', '.join(KINDS)}")
    files = _render(kind, name)
    _check_folder(folder)
    try:
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"cannot write '{folder}': {error.strerror or error}", "choose a folder with write permission"
        ) from error
    return folder


def _render(kind: str, name: str) -> dict[str, str]:
    """Every file of the plugin: path -> text."""
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"'{name}' cannot be a component name", "use lower-case letters, digits and hyphens, e.g. my-method"
        )
    module = name.replace("-", "_")
    cls = "".join(word.capitalize() for word in name.split("-"))
    part = (TEMPLATES / kind / "part.py.txt").read_text(encoding="utf-8")
    imported = re.search(rf"^(from|import|class) .*\b{cls}\b", part, re.MULTILINE)
    if imported or keyword.iskeyword(module) or module in ("config", "kit", "tests") or name.startswith("gsegkit"):
        raise ConfigError(
            f"the name '{name}' is already used by gsegkit or by Python", "choose another, e.g. my-method"
        )
    major, minor = version("gsegkit").split(".")[:2]
    values = {
        "KIND": kind,
        "NAME": name,
        "MODULE": module,
        "CLASS": cls,
        "RECORD": KINDS[kind],
        "VERSIONS": f">={major}.{minor},<{major}.{int(minor) + 1}",
    }
    package = f"gsegkit_{module}"
    sources = {
        "pyproject.toml": "pyproject.toml.txt",
        "README.md": f"{kind}/README.md.txt",
        f"{package}/__init__.py": "init.py.txt",
        f"{package}/config.py": f"{kind}/config.py.txt",
        f"{package}/kit.py": f"{kind}/kit.py.txt" if (TEMPLATES / kind / "kit.py.txt").exists() else "kit.py.txt",
        f"{package}/{module}.py": f"{kind}/part.py.txt",
        f"{package}/py.typed": "py.typed.txt",
        "tests/test_contract.py": "test_contract.py.txt",
    }
    return {path: _fill((TEMPLATES / source).read_text(encoding="utf-8"), values) for path, source in sources.items()}


def _fill(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"__([A-Z]+)__", lambda match: values[match[1]], text)


def _check_folder(folder: Path) -> None:
    try:
        if folder.is_dir() and not any(folder.iterdir()):
            return
        exists = folder.exists()
    except OSError as error:
        raise StorageError(f"cannot read '{folder}': {error.strerror}", "choose another folder") from error
    if exists:
        what = "is not empty" if folder.is_dir() else "is a file"
        raise DataError(f"'{folder}' {what}", "give a folder that does not exist yet, with --out")
