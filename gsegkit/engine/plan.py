"""The plan of a run: which parts, with which options, on what. Light: nothing here imports torch."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from gsegkit.classes.class_map import ClassMap, as_class_map
from gsegkit.config import Config, build_config, current_names, parse_assignments
from gsegkit.errors import ConfigError, PluginConflictError, PluginLoadError, UnknownPluginError
from gsegkit.plugins import SHORT_KINDS, Entry, Registry
from gsegkit.records.text import shown
from gsegkit.rundir import RunFolder, stage_key


class PartSpec(Config):
    """A component by name, and its options."""

    name: str = Field(min_length=1, description="component, or component@distribution")
    options: dict[str, Any] = Field(default_factory=dict, description="its options; missing ones have their defaults")


def _spec(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


Spec = Annotated[PartSpec, BeforeValidator(_spec)]


class SelfTrain(Config):
    """How a run's segmenter learns from photographs without masks."""

    rounds: int = Field(
        1, ge=1, le=10, description="times that the photographs are labelled and a segmenter is trained"
    )
    share: float = Field(0.5, ge=0, lt=1, description="share of synthetic pairs among the pairs of a round; 0 = none")
    refine: Spec | None = Field(PartSpec(name="colours"), description="refiner of the photographs' masks; null = none")
    min_confidence: float = Field(0.7, ge=0, le=1, description="less probable pixels are 255: they teach nothing")
    min_labelled: float = Field(
        0.5, ge=0, le=1, description="a photograph with a smaller share of such pixels is left out"
    )
    num_photos: int = Field(1000, ge=2, description="at most this many photographs, drawn at random")


DEVICES = "auto, cpu, cuda, cuda:1 or mps"
MAX_PATH, MAX_NAME = 4096, 255  # bytes of a path, and of one name in it
MAX_SAMPLES = 100_000_000  # beyond any disk: at 64 px they take 1.6 TB
PairFormat = Literal["safetensors", "webdataset"]
PAIR_FORMATS: tuple[PairFormat, ...] = get_args(PairFormat)
NATIVE: PairFormat = "safetensors"


def device_name(name: str) -> str:
    """A device's name as it is; ValueError when it is none that gsegkit computes on."""
    if not re.fullmatch(r"auto|cpu(:0)?|mps(:0)?|cuda(:\d{1,3})?", name):
        raise ValueError(f"{shown(name, 40)} is not a device that gsegkit computes on; use {DEVICES}")
    return name


def _possible(path: Path) -> Path:
    """A path as it is; ValueError when no file system could hold it: the system's own error would come much later."""
    data = os.fsencode(path)
    if b"\0" in data or len(data) > MAX_PATH or any(len(part) > MAX_NAME for part in data.split(b"/")):
        raise ValueError("this is not a path: a name in it is too long, or it holds a zero byte")
    return path


Names = Annotated[ClassMap | None, BeforeValidator(as_class_map)]
Folder = Annotated[Path, AfterValidator(_possible), PlainSerializer(str)]
Find = Callable[[str, str], Entry]  # of a component kind and a name, as `Registry.find`

#: Part of the plan -> component kind.
PART_KINDS = {
    "gen": "generator",
    "extractor": "extractor",
    "seg": "segmenter",
    "eval": "evaluator",
    "data_reader": "dataset",
}
PHOTO_REFINER = "selftrain.refine"  # where the refiner of the photographs' masks stands in a plan
MAX_SHOWN = 80  # characters of a value in a list of differences


class Plan(Config):
    """Everything that defines a run. Stored as config.json; `gsegkit run --config` replays it."""

    gen: Spec = Field(description="generator")
    extractor: Spec = Field(description="mask extractor")
    refine: tuple[Spec, ...] | None = Field(
        None, description="refiners, in the order they run; None = what the extractor suggests"
    )
    seg: Spec = Field(description="segmenter")
    eval: Spec = Field(PartSpec(name="masks"), description="evaluator")
    data_reader: Spec = Field(PartSpec(name="folder"), description="reader of image folders")

    shipped: str | None = Field(
        None,
        description="class names that ship with weights: their fitted extractor is taken, and `classes` are theirs",
    )
    classes: Names = Field(None, description="names for the extractor's clusters (a classes.yaml); None = no names")
    target: Literal["clusters", "parts", "foreground"] = Field(
        "clusters",
        description="classes without names: every cluster of the extractor; a few parts, of its coarse cut; or "
        "foreground and background",
    )
    num_samples: int = Field(2000, ge=1, le=MAX_SAMPLES, description="generated candidates for the training set")
    format: PairFormat = Field(
        NATIVE, description="files of the synthetic pairs: safetensors; or webdataset, tar files of PNGs, same pixels"
    )
    rounds: int = Field(1, ge=1, description="rounds of generator, extractor, segmenter; above 1 they alternate")
    train_generator: bool = Field(False, description="train the generator on `images` first")
    images: Folder | None = Field(None, description="folder of unlabelled photographs; None = none")
    data: Folder | None = Field(None, description="folder of annotated photographs to score on; None = none")
    photos: Folder | None = Field(None, description="folder of unlabelled photographs to self-train on; None = none")
    selftrain: SelfTrain | None = Field(None, description="how to self-train on `photos`; None without them")

    seed: int = Field(0, ge=0, lt=2**63, description="seed of every random number of the run")
    device: Annotated[str, AfterValidator(device_name)] = Field("auto", description=DEVICES)
    batch_size: int = Field(16, ge=1, le=4096, description="micro-batch of the generator; part of the run's identity")
    smoke: bool = Field(False, description="limit every loop to a few steps, to check that the whole run works")

    @model_validator(mode="before")
    @classmethod
    def _with_photos(cls, values: Any) -> Any:
        given = isinstance(values, dict) and values.get("photos") is not None
        return {**values, "selftrain": values.get("selftrain") or {}} if given else values

    @classmethod
    def from_options(cls, base: dict[str, Any], assignments: list[str] | tuple[str, ...] = (), **fields: Any) -> Plan:
        """Merge a config file's values, `-o part.option=value` assignments and named fields; the last one wins.

        Raises:
            ConfigError: an unknown part or field, or a value that does not fit.
        """
        values: dict[str, Any] = {name: _field(name, value) for name, value in base.items()}
        values.update({name: _field(name, value) for name, value in fields.items() if value is not None})
        for part, options in parse_assignments(assignments).items():
            _assign(values, SHORT_KINDS.get(part, part), options)
        return build_config(cls, values, where="run")

    @classmethod
    def from_record(cls, record: Mapping[str, Any], registry: Registry) -> Plan:
        """Read a stored config.json; options that were renamed since then are read under their old names too."""
        return cls.from_options(renew(record, registry.find))

    @classmethod
    def of_run(cls, folder: str | Path, registry: Registry) -> Plan:
        """The plan that a run folder was made with; ArtifactError when it is none."""
        return cls.from_record(RunFolder(folder).read_config(), registry)

    def parts(self) -> list[tuple[str, str, PartSpec]]:
        """(where, kind, spec) of every component that the plan uses; the reader only when there is a folder to read."""
        unused = {"data_reader"} if self.data is None and self.images is None and self.photos is None else set()
        named = [(where, kind, getattr(self, where)) for where, kind in PART_KINDS.items() if where not in unused]
        if self.photos is not None and self.selftrain is not None and self.selftrain.refine is not None:
            named.append((PHOTO_REFINER, "refiner", self.selftrain.refine))
        return named + [(f"refine.{spec.name}", "refiner", spec) for spec in self.refine or ()]

    @property
    def photo_rounds(self) -> int:
        """Rounds of self-training, 0 without photographs; they follow the `rounds` of the generator."""
        return self.selftrain.rounds if self.photos is not None and self.selftrain is not None else 0

    def record(self) -> dict[str, Any]:
        """What config.json stores; without photographs or a target it is what it was before there were any."""
        unused = {"photos", "selftrain"} if self.photos is None and self.selftrain is None else set()
        unused |= {"target"} if self.target == "clusters" else set()
        unused |= {"shipped"} if self.shipped is None else set()
        unused |= {"format"} if self.format == NATIVE else set()
        return self.model_dump(mode="json", exclude=unused)

    def default_folder(self) -> Path:
        """`runs/<gen>-<extractor>-<seg>-<hash>`: the same command finds the same folder again."""
        known = {name: value for name, value in self.record().items() if name not in ("device", "classes")}
        key = stage_key(known)[:6]
        names = "-".join(spec.name.partition("@")[0] for spec in (self.gen, self.extractor, self.seg))
        return Path("runs") / f"{names}{'-smoke' if self.smoke else ''}-{key}"


def renew(record: Mapping[str, Any], find: Find) -> dict[str, Any]:
    """A stored config.json with every option of its parts under the name that it has today.

    A part that `find` does not know stays as it is.
    """
    refine = record.get("refine") or []
    if isinstance(refine, list | tuple):  # another value stays as it is: whoever builds the plan says what is wrong
        refine = [_renewed(find, "refiner", spec) for spec in refine]
    new = {**record, "refine": refine}
    new.update({part: _renewed(find, kind, record[part]) for part, kind in PART_KINDS.items() if part in record})
    own = record.get("selftrain")
    if isinstance(own, dict) and own.get("refine"):
        new["selftrain"] = {**own, "refine": _renewed(find, "refiner", own["refine"])}
    return new


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Lines `name: old -> new` for every value that differs between two nested dictionaries."""
    lines = []
    for name in sorted({*old, *new}):
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            lines += differences(a, b, f"{prefix}{name}.")
        elif a != b:
            lines.append(f"{prefix}{name}: {_clipped(a)} -> {_clipped(b)}")
    return lines


def _clipped(value: Any) -> str:
    text = str(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 4] + " ..."


def _field(name: str, value: Any) -> Any:
    if name == "refine" and isinstance(value, list | tuple):
        return [_spec(item) for item in value]
    return _spec(value) if name in PART_KINDS else value


def _renewed(find: Find, kind: str, spec: Any) -> Any:
    try:
        cls = find(kind, spec["name"]).config_class()
        return {**spec, "options": current_names(cls, spec["options"])}
    except (UnknownPluginError, PluginConflictError, PluginLoadError, KeyError, TypeError, AttributeError):
        return spec  # not there, or not of this form: whoever builds the plan says so


def _assign(values: dict[str, Any], part: str, options: dict[str, Any]) -> None:
    if part == "run":
        values.update({name: _field(name, value) for name, value in options.items()})
    elif part == "refine":
        for name, value in options.items():
            _assign_refiner(values, name, value)
    elif part == "selftrain":
        values[part] = _nested({**(values.get(part) or {})}, options)
    elif part in PART_KINDS:
        spec = dict(values.get(part) or Plan.model_fields[part].get_default() or {})
        if not spec.get("name"):
            raise ConfigError(f"options for '{part}' were given, but no {part}", f"choose one with --{part}")
        if part == "data_reader" and "name" in options:  # it has no flag of its own
            spec, options = {"name": options["name"]}, {key: options[key] for key in options if key != "name"}
        values[part] = {**spec, "options": {**spec.get("options", {}), **options}}
    else:
        known = ", ".join([*PART_KINDS, "refine", "selftrain", "run"])
        raise ConfigError(f"option '{part}.{next(iter(options))}': there is no part '{part}'", f"parts: {known}")


def _nested(values: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """`values` with `options`; `refine.OPTION` is an option of the refiner in it."""
    for name, value in options.items():
        first, dot, option = name.partition(".")
        if dot and first == "refine":
            spec = dict(_spec(values.get("refine")) or SelfTrain().refine or {})
            values["refine"] = {**spec, "options": {**spec.get("options", {}), option: value}}
        else:
            values[name] = value
    return values


def _assign_refiner(values: dict[str, Any], name: str, value: Any) -> None:
    refiner, dot, option = name.partition(".")
    specs = [dict(spec) for spec in values.get("refine") or ()]
    targets = [spec for spec in specs if spec["name"].partition("@")[0] == refiner]
    if not dot or not targets:
        chosen = ", ".join(spec["name"] for spec in specs) or "none"
        raise ConfigError(
            f"option 'refine.{name}' does not name a chosen refiner (chosen: {chosen})",
            "write -o refine.NAME.option=value, and choose the refiner with --refine NAME",
        )
    for spec in targets:
        spec["options"] = {**spec.get("options", {}), option: value}
    values["refine"] = specs
