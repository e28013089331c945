"""What the user has: weights by their file names, data sets by the names of their folders. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gsegkit.errors import ConfigError
from gsegkit.reproducing.recipes import Paper, Weights
from gsegkit.storage import file_hash

MAX_SHOWN = 8


@dataclass
class Given:
    """Folders and files as the command line gives them.

    Attributes:
        roots: folders that hold data sets under their usual names.
        data: name of a recipe's data -> its folder, for what lies elsewhere.
        files: weight files, and folders of them, recognised by the files' names.
        weights: name of a recipe's weights -> its file, for what is called otherwise.
    """

    roots: list[Path] = field(default_factory=list)
    data: dict[str, Path] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    weights: dict[str, Path] = field(default_factory=dict)

    @classmethod
    def of(cls, data: Sequence[str], weights: Sequence[str], papers: Iterable[Paper]) -> Given:
        """Read `ROOT`, `NAME=FOLDER` and `FILE`, `NAME=FILE`.

        Raises:
            ConfigError: a path that is not there, or a name that no recipe has.
        """
        papers = list(papers)
        given = cls()
        for text in data:
            name, path = _split(text, {name for paper in papers for name in paper.data})
            if not path.is_dir():
                raise ConfigError(f"'{path}' is not a folder of data", "check the path after --data")
            given.roots += [path] if not name else []
            given.data.update({name: path} if name else {})
        for text in weights:
            name, path = _split(text, {name for paper in papers for name in paper.weights})
            if not path.exists():
                raise ConfigError(f"weights '{path}' do not exist", "check the path after --weights")
            given.files += [path] if not name else []
            given.weights.update({name: path} if name else {})
        given._check_names(papers)
        return given

    def file_of(self, name: str, weights: Weights) -> Path | None:
        """The file with these weights; None = the user has not given it."""
        if name in self.weights:
            return self.weights[name]
        for given in self.files:
            path = given / weights.file if given.is_dir() else given
            if path.name == weights.file and path.is_file():
                return path
        return None

    def folder_of(self, name: str, folders: Sequence[str]) -> Path | None:
        """The folder of a data set: the given one, or the first of its usual names below a root, in any case."""
        if name in self.data:
            return self.data[name]
        for root in self.roots:
            there = {child.name.lower(): child for child in sorted(root.iterdir()) if child.is_dir()}
            for folder in folders:
                if folder.lower() in there:
                    return there[folder.lower()]
        return None

    def _check_names(self, papers: Sequence[Paper]) -> None:
        known = sorted({weights.file for paper in papers for weights in paper.weights.values()})
        for path in self.files:
            if path.is_file() and path.name not in known:
                some = ", ".join(known[:MAX_SHOWN]) + (" ..." if len(known) > MAX_SHOWN else "")
                raise ConfigError(
                    f"'{path.name}' is none of the weights of this table ({some or 'it needs none'})",
                    "give it as NAME=FILE if it was renamed; gsegkit reproduce TABLE --dry-run shows the names",
                )


def check_weights(path: Path, name: str, weights: Weights) -> str:
    """The sha256 of a weight file.

    Raises:
        ConfigError: it is not the one that the recipe names.
    """
    if path.is_dir():
        raise ConfigError(f"weights '{name}' are one file, and '{path}' is a folder", f"give {weights.file}")
    found = file_hash(path)
    if weights.sha256 and found != weights.sha256:
        raise ConfigError(
            f"'{path}' is not {weights.file} as it was published: its sha256 is {found[:12]}..., not "
            f"{weights.sha256[:12]}...",
            f"fetch {weights.file} from {weights.source}",
        )
    return found


def _split(text: str, known: set[str]) -> tuple[str, Path]:
    """(name, path) of NAME=PATH; ("", path) of a path, which may hold a "=" itself."""
    name, equals, path = text.partition("=")
    if not equals or (name not in known and Path(text).exists()):
        return "", Path(text)
    if name not in known:
        raise ConfigError(f"no recipe here uses '{name}'", f"names: {', '.join(sorted(known)) or 'none'}")
    return name, Path(path)


def missing_weights(name: str, weights: Weights) -> str:
    """What to say about weights that are not here."""
    return f"{weights.title}, {weights.file} ({weights.source}; licence: {weights.licence}): --weights {name}=FILE"
