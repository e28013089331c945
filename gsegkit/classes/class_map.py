"""classes.yaml: which clusters of a fitted extractor are which class. Light: nothing here imports torch.

extractor: "5d0c9f17c2a4e6b8"     # the fit it belongs to
cut: 6                            # for extractors with levels
classes:                          # in the order of the mask values
- name: background
colour: "#000000"               # may be left out
clusters: [3, 0]
- name: leaf
clusters: [1, 2, 5]
ignore: [7]                       # becomes 255 in masks; may be left out
labels_used: [image-1]            # annotated images that decided this; written by `gsegkit match`
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, StrictInt, field_validator, model_validator

from gsegkit.config import Config, build_config, read_options_file
from gsegkit.errors import ConfigError
from gsegkit.records.names import CLASS_NAME_RULE, is_class_name
from gsegkit.records.text import MAX_SHOWN, cut
from gsegkit.rundir import CONFIG_FILE, RUN_FILE

FILE_NAME = "classes.yaml"
MAX_BYTES = 1 << 18
REMEDY = "gsegkit name RUN makes such a file"
RAW_NAME = re.compile(r"cluster-(\d{1,9})")  # what a clustering extractor calls a cluster
SHIPPED_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")  # of names that ship with weights, see `gsegkit.classes.shipped`
IGNORED = -1  #: target of clusters that belong to no class
REST = "*"  #: in `--class NAME=*`: every cluster that nothing else names

ClusterId = Annotated[StrictInt, Field(ge=0)]


class NamedClass(Config):
    """A class: its name, its colour, and the clusters that make it up."""

    name: str = Field(description="its name")
    colour: str | None = Field(None, pattern=r"^#[0-9a-fA-F]{6}$", description='colour in images, "#rrggbb"')
    clusters: tuple[ClusterId, ...] = Field(min_length=1, description="ids of its clusters")

    @field_validator("name")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not is_class_name(value):
            raise ValueError(CLASS_NAME_RULE)
        return unicodedata.normalize("NFC", value)


class ClassMap(Config):
    """The content of a classes.yaml. Class i of a mask is `classes[i]`."""

    extractor: str = Field(pattern=r"^[0-9a-f]{16}$", description="fingerprint of the fit it belongs to")
    cut: int | None = Field(None, ge=1, description="number of clusters, for extractors with levels")
    classes: tuple[NamedClass, ...] = Field(min_length=2, max_length=255, description="classes in mask order")
    ignore: tuple[ClusterId, ...] = Field((), description="clusters whose pixels become 255")
    labels_used: tuple[str, ...] = Field(
        (), description="annotated images that were used to name the classes; they are not scored"
    )

    @model_validator(mode="after")
    def _each_once(self) -> ClassMap:
        name, count = Counter(self.names).most_common(1)[0]
        if count > 1:
            raise ValueError(f"two classes are called '{name}'; put their clusters into one")
        ids = [cluster for entry in self.classes for cluster in entry.clusters]
        cluster, count = Counter([*ids, *self.ignore]).most_common(1)[0]
        if count > 1:
            raise ValueError(f"cluster {cluster} is named {count} times; a cluster belongs to one class")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The class names in mask order."""
        return tuple(entry.name for entry in self.classes)

    @property
    def identity(self) -> list[Any]:
        """What the masks depend on: everything but colours and where the names came from."""
        return [self.extractor, self.cut, [[c.name, *sorted(c.clusters)] for c in self.classes], sorted(self.ignore)]

    def targets(self, ids: Sequence[int]) -> tuple[int, ...]:
        """For each cluster its class, or -1 when it is ignored.

        Args:
            ids: the clusters that there are.

        Raises:
            ConfigError: the file names a cluster that does not exist, or leaves one out.
        """
        found = {cluster: index for index, entry in enumerate(self.classes) for cluster in entry.clusters}
        found |= dict.fromkeys(self.ignore, IGNORED)
        unknown, missing = sorted(set(found) - set(ids)), sorted(set(ids) - set(found))
        if unknown:
            raise ConfigError(f"the class names refer to cluster {unknown[0]}, which does not exist", _known(ids))
        if missing:
            shown = ", ".join(map(str, missing[:10]))
            raise ConfigError(f"the class names omit cluster {shown}", "add it to a class, or to ignore")
        return tuple(found[cluster] for cluster in ids)

    def colours(self, classes: Sequence[str]) -> dict[int, str]:
        """Mask value -> colour, for those of `classes` that have one here."""
        chosen = {entry.name: entry.colour for entry in self.classes if entry.colour is not None}
        return {value: chosen[name] for value, name in enumerate(classes) if name in chosen}

    def summary(self) -> str:
        """One line: `background <- 3, 0; leaf <- 1, 2, 5; ignored 7`."""
        parts = [f"{entry.name} <- {', '.join(map(str, entry.clusters))}" for entry in self.classes]
        return "; ".join(parts + ([f"ignored {', '.join(map(str, self.ignore))}"] if self.ignore else []))


def cluster_ids(classes: Sequence[str]) -> tuple[int, ...]:
    """Cluster ids of unnamed classes: `cluster-7` is 7; classes with other names are numbered from 0."""
    found = [RAW_NAME.fullmatch(name) for name in classes]
    ids = [int(match[1]) for match in found if match]
    return tuple(ids) if len(ids) == len(classes) else tuple(range(len(classes)))


# ---- reading -----------------------------------------------------------------------------------------------------


def is_class_map(values: Any) -> bool:
    """True for what a classes.yaml of this kind holds; false for lists and tables of names."""
    return isinstance(values, Mapping) and isinstance(values.get("classes"), list | tuple)


def parse_class_map(values: Mapping[str, Any], where: str = "classes") -> ClassMap:
    """Validate the content of a classes.yaml.

    Raises:
        ConfigError: says what is wrong.
    """
    if not is_class_map(values):
        raise ConfigError(f"{where} has no list of classes", REMEDY)
    try:
        return build_config(ClassMap, values, where)
    except ConfigError as error:
        raise ConfigError(cut(error.message, 600), REMEDY) from None


def read_class_map(path: str | Path) -> ClassMap:
    """Read a classes.yaml.

    Raises:
        ConfigError: missing, unreadable, too large, not YAML, not such a file, or two classes have one colour.
    """
    found = parse_class_map(read_values(path), str(path))
    refuse_equal_colours([(entry.name, entry.colour) for entry in found.classes])
    return found


def refuse_equal_colours(classes: Sequence[tuple[str, str | None]]) -> None:
    """Refuse what a person gave when two classes (name, colour) could not be told apart in images.

    Names that are stored already are taken as they are.

    Raises:
        ConfigError: two classes have one colour.
    """
    chosen: dict[str, str] = {}
    for name, colour in classes:
        if colour is None:
            continue
        other = chosen.setdefault(colour.lower(), name)
        if other != name:
            raise ConfigError(
                f"'{other}' and '{name}' have one colour, {colour.lower()}", "choose another, or leave colours out"
            )


def names_something_shipped(value: Any) -> bool:
    """Whether what was given as class names is a bare word and no file: the name of those that ship with weights."""
    return isinstance(value, str | Path) and SHIPPED_NAME.fullmatch(str(value)) is not None and not Path(value).exists()


def class_map_in(path: str | Path) -> ClassMap | None:
    """The class map in an option file; None when the file is another table. Raises as `read_class_map`."""
    values = read_values(path)
    return parse_class_map(values, str(path)) if is_class_map(values) else None


def read_values(path: str | Path) -> dict[str, Any]:
    """Read an option file of at most 256 KB; ConfigError as `read_options_file`."""
    path = Path(path)
    try:
        size = path.stat().st_size if path.is_file() else 0
    except OSError as error:  # a name that no file system takes
        raise ConfigError(f"cannot read '{cut(str(path), MAX_SHOWN)}': {error.strerror}", "check the path") from None
    if size > MAX_BYTES:
        raise ConfigError(f"'{path}' has {size:,} bytes", f"a file of class names has at most {MAX_BYTES:,}")
    return read_options_file(path)


def stored_class_map(folder: str | Path) -> ClassMap | None:
    """The class names that a run or a trained segmenter (classes.yaml) was made with, if any.

    Those of a run stand in its config.json when a person gave them, in its run.json when its target made them.

    Raises:
        ConfigError: the record is damaged.
    """
    folder = Path(folder)
    if (folder / CONFIG_FILE).is_file():
        for name in (CONFIG_FILE, RUN_FILE):
            record = read_options_file(folder / name) if (folder / name).is_file() else {}
            if record.get("classes"):
                return parse_class_map(record["classes"], f"{folder / name}")
        return None
    path = folder / FILE_NAME
    return class_map_in(path) if path.is_file() else None


# ---- writing -----------------------------------------------------------------------------------------------------


def class_map_yaml(class_map: ClassMap) -> str:
    """The text of a classes.yaml."""
    record = class_map.model_dump(mode="json", exclude_none=True)
    for name in ("ignore", "labels_used"):
        if not record[name]:
            del record[name]
    head = "# Which clusters are which class. Use it with --classes; cut and clusters belong to one fit.\n"
    return head + yaml.safe_dump(record, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)


def check_target(path: str | Path) -> None:
    """Refuse to write class names over something else.

    Raises:
        ConfigError: not a .yaml path, or the file there is no class map (the class names of a data folder, say).
    """
    path = Path(path)
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"'{path}' is not a .yaml file", "give a path like classes.yaml")
    if path.exists():
        try:
            mine = is_class_map(read_values(path))
        except ConfigError:
            mine = False
        if not mine:
            raise ConfigError(f"'{path}' exists and is not a file of class names", "choose another file")


def use_command(run: str, names: str = FILE_NAME) -> str:
    """The command that predicts with class names; the segmenter of clusters stays as it is."""
    return shlex.join(["gsegkit", "predict", run, "PHOTOS", "--out", "masks", "--classes", names])


def train_command(run: str, names: str = FILE_NAME) -> str:
    """The command that makes pairs and segmenter of a run anew with class names; its fitted extractor is kept."""
    words = ["gsegkit", "run", "--config", f"{run}/config.json", "--out", run, "--classes", names, "--update"]
    return shlex.join(words)


# ---- the command line's syntax -----------------------------------------------------------------------------------


def parse_classes(texts: Sequence[str], ignore: str, ids: Sequence[int]) -> tuple[list[dict[str, Any]], list[int]]:
    """Read `NAME=3,0`, `NAME#44aa22=1,2,5` and `NAME=*` (every cluster that nothing else names).

    Args:
        texts: one for each class, in mask order.
        ignore: `7,8` or `*`; "" = none.
        ids: the clusters that there are.

    Returns:
        The classes as they stand in the file, and the ignored clusters.

    Raises:
        ConfigError: not of this form, `*` twice, or two classes of one colour.
    """
    parts = []
    for text in texts:
        match = re.fullmatch(r"(.+?)(#[0-9a-fA-F]{6})?=([\d,\s]+|\*)", text.strip())
        if match is None:
            raise ConfigError(
                f"--class '{text}' does not have the form NAME=ID,ID", 'for example --class "leaf#44aa22=1,2"'
            )
        parts.append((match[1].strip(), match[2], match[3].strip()))
    if ignore and not re.fullmatch(r"[\d,\s]+|\*", ignore):
        raise ConfigError(f"--ignore '{ignore}' does not have the form ID,ID", "for example --ignore 7,8")
    lists = [numbers for *_, numbers in parts] + [ignore.strip()]
    if lists.count(REST) > 1:
        raise ConfigError("'*' (all remaining clusters) was given twice", "give it once")
    refuse_equal_colours([(name, colour) for name, colour, _ in parts])
    named = {int(number) for numbers in lists if numbers != REST for number in _numbers(numbers)}
    rest = [cluster for cluster in ids if cluster not in named]
    found = [rest if numbers == REST else [int(number) for number in _numbers(numbers)] for numbers in lists]
    classes = [
        {"name": name, "colour": colour, "clusters": clusters}
        for (name, colour, _), clusters in zip(parts, found, strict=False)
    ]
    return classes, found[-1]


def _numbers(text: str) -> list[str]:
    return [number.strip() for number in text.split(",") if number.strip()]


def _known(ids: Sequence[int]) -> str:
    shown = ", ".join(map(str, sorted(ids)[:40]))
    return f"clusters of this cut: {shown}{' ...' if len(ids) > 40 else ''}"


def as_class_map(value: Any) -> Any:
    """What a plan accepts: a path, the content, or a ClassMap; None stays None."""
    if isinstance(value, str | Path):
        return read_class_map(value)
    return parse_class_map(value) if isinstance(value, Mapping) else value
