"""Checks of what loads weights: the option `weights` of generators, and the readers of other software's files."""

from __future__ import annotations

import importlib
import os
import pickle
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.toy import Toy
from gsegkit.checkpoints import Checkpoint, CheckpointFile
from gsegkit.errors import ArtifactError, ConfigError, GsegkitError, PluginLoadError, UnknownPluginError
from gsegkit.interfaces import CheckpointReader, Generator
from gsegkit.painting import Painter
from gsegkit.parts import COMPONENT_FILE, STATE_FILE, restore, save_part
from gsegkit.plugins import installed
from gsegkit.rundir import CONFIG_FILE, stage_name
from gsegkit.storage import atomic_write_json, read_json
from gsegkit.tensors import load_state
from gsegkit.testing import fixtures
from gsegkit.testing.subject import CheckSkippedError, Subject

REFUSALS = (ArtifactError, ConfigError, UnknownPluginError)
DAMAGED_COPIES = 40

# ---- the option `weights` of generators ----------------------------------------------------------------------------


def _name(subject: Subject) -> str:
    if subject.entry is None:
        raise CheckSkippedError("not registered: its name is not known")
    return subject.entry.component.name


def _stored(subject: Subject, folder: Path, seed: int) -> Tensor:
    """Store a generator whose weights are its own for every seed; its images."""
    part: Generator = subject.make()
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=noise) * 0.1)
    subject.call("state_dict", save_part, part, folder, "generator", _name(subject))
    return _images(subject, part)


def _images(subject: Subject, part: Generator) -> Tensor:
    images: Tensor = subject.call("sample", part.sample, fixtures.seeds(2)).images
    return images


def _loaded(subject: Subject, folder: Path) -> Tensor:
    return _images(subject, subject.make(subject.config(weights=str(folder))))


def _plan(subject: Subject, folder: Path, rounds: int, trained: bool, options: Mapping[str, Any]) -> None:
    plan = {"gen": {"name": _name(subject), "options": dict(options)}, "rounds": rounds, "train_generator": trained}
    atomic_write_json(folder / CONFIG_FILE, plan)


def check_weights_of_a_part(subject: Subject) -> None:
    """weights: the folder of a stored part and its state file give the stored part."""
    with fixtures.context() as ctx:
        images = _stored(subject, ctx.folder / "part", 1)
        for path in (ctx.folder / "part", ctx.folder / "part" / STATE_FILE):
            same = torch.equal(images, _loaded(subject, path))
            subject.expect(same, "__init__", f"weights={path.name}: other images than the part that was stored")


def check_weights_of_a_run(subject: Subject) -> None:
    """weights: a run folder gives the last finished round of its plan, or what its plan says of the generator."""
    with fixtures.context() as ctx:
        run = ctx.folder / "run"
        wanted = {round: _stored(subject, run / stage_name("generator", round), round) for round in (0, 2, 10, 11)}
        (run / stage_name("generator", 3)).mkdir()  # a round that was interrupted
        _plan(subject, run, 11, True, subject.config().model_dump(mode="json"))
        images = _loaded(subject, run)
        for round, others in wanted.items():
            if round != 10 and torch.equal(images, others):
                why = "round 11 is not of its plan" if round == 11 else "round 10 was finished last"
                subject.fail("__init__", f"weights=RUN loads round {round}, but {why}")
        subject.expect(torch.equal(images, wanted[10]), "__init__", "weights=RUN loads no round of the run")
        first = _loaded(subject, run / "generator")
        subject.expect(torch.equal(first, wanted[0]), "__init__", "weights=RUN/generator does not load that round")
        untrained = ctx.folder / "untrained"
        options = subject.config(weights=str(run / "generator-2")).model_dump(mode="json")
        _plan(subject, untrained, 1, False, options)
        same = torch.equal(_loaded(subject, untrained), wanted[2])
        subject.expect(same, "__init__", "weights=RUN of a run without training is not the generator of its plan")


def check_weights_refused(subject: Subject) -> None:
    """weights: what is missing, foreign, damaged, or another part is refused in a sentence."""
    with fixtures.context() as ctx:
        for what, path in _unusable(subject, ctx.folder).items():
            _refused(subject, what, path)


def _refused(subject: Subject, what: str, path: Path) -> None:
    config = subject.config(weights=str(path))
    try:
        subject.construct(config)
    except PluginLoadError as error:
        subject.fail("__init__", f"weights={what} must be refused, but it fails: {error}")
    except REFUSALS as error:
        subject.expect(error.hint, "__init__", f"weights={what} is refused without a remedy: {error}")
        return
    subject.fail("__init__", f"weights={what} must be refused, but nothing was raised")


def _unusable(subject: Subject, folder: Path) -> dict[str, Path]:
    """What no generator can load: words -> path."""
    found = {"a path that does not exist": folder / "missing.pt"}
    found |= {what: path for what, path in foreign_files(folder).items()}
    toy = Toy(ToyConfig(size=16))
    for what, kind, name in (("a segmenter", "segmenter", _name(subject)), ("another generator", "generator", "other")):
        found[what] = folder / name / kind
        save_part(toy, found[what], kind, name)

    def damaged(what: str, change: Callable[[Path], None]) -> None:
        found[what] = folder / what.replace(" ", "-")
        _stored(subject, found[what], 1)
        change(found[what])

    def flip(path: Path) -> None:
        data = bytearray((path / STATE_FILE).read_bytes())
        data[-1] ^= 1
        (path / STATE_FILE).write_bytes(data)

    def other_facts(path: Path) -> None:
        record = read_json(path / COMPONENT_FILE)
        record["facts"] = {name: None for name in record["facts"]}
        (path / COMPONENT_FILE).unlink()
        atomic_write_json(path / COMPONENT_FILE, {**record, "facts": record["facts"] or []})

    damaged("a part with a changed tensor", flip)
    damaged("a part with half its tensors", lambda path: os.truncate(path / STATE_FILE, 200))
    damaged("a part without tensors", lambda path: (path / STATE_FILE).unlink())
    damaged("a part whose record is a list", lambda path: _overwrite(path, "[]"))
    damaged("a part whose record is cut", lambda path: _overwrite(path, '{"kind": "gener'))
    damaged("a part with other facts", other_facts)
    return found


def _overwrite(folder: Path, text: str) -> None:
    (folder / COMPONENT_FILE).write_text(text)


WEIGHTS_OPTION_CHECKS = (check_weights_of_a_part, check_weights_of_a_run, check_weights_refused)

# ---- checkpoint readers --------------------------------------------------------------------------------------------


class _Payload:
    """Pickles as a command that leaves a file behind when it is run."""

    def __init__(self, canary: Path) -> None:
        self.command = f"touch '{canary}'"

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


def foreign_files(folder: Path, canary: Path | None = None) -> dict[str, Path]:
    """Files that are no weights of anything: what they are -> path. One of them would make `canary` if it were run."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "an empty file": b"",
        "a web page": b"<!DOCTYPE html><html><body>404</body></html>",
        "a text": b"no checkpoint\n" * 9,
        "random bytes": random.Random(3).randbytes(999),
        "a hostile pickle": pickle.dumps({"G_ema": _Payload(canary or folder / "canary")}),
        "a pickle of a list": pickle.dumps([1, 2, 3]),
    }
    found = {}
    for what, data in contents.items():
        found[what] = folder / f"{what.replace(' ', '-')}.pt"
        found[what].write_bytes(data)
    tensors = {"somebody.weight": torch.zeros(3, 2), "somebody.bias": torch.zeros(3)}
    for what, value in (("tensors of another network", tensors), ("a state under a key", {"state_dict": tensors})):
        found[what] = folder / f"{what.replace(' ', '-')}.pt"
        torch.save(value, found[what])
    found["an empty folder"] = folder / "empty"
    found["an empty folder"].mkdir()
    return found


def _sniff(subject: Subject, reader: CheckpointReader, path: Path) -> bool:
    """What sniff() says; a refusal is a no."""
    try:
        answer = reader.sniff(CheckpointFile(path))
    except ArtifactError as error:
        subject.expect(error.hint, "sniff", f"refuses '{path.name}' without a remedy: {error}")
        return False
    except Exception as error:
        subject.fail("sniff", f"'{path.name}' must be refused or declined, got {type(error).__name__}: {error}", error)
    subject.expect(isinstance(answer, bool), "sniff", f"returned {type(answer).__name__}, not bool")
    return answer


def check_reader_words(subject: Subject) -> None:
    """The reader says in one line what it looks for, and names an installed component."""
    reader: CheckpointReader = subject.make()
    words = reader.looks_for
    subject.expect(isinstance(words, str) and words and "\n" not in words, "looks_for", f"is {words!r}, not one line")
    try:
        installed().find(reader.kind, reader.component)
    except GsegkitError as error:
        raise CheckSkippedError(f"its {reader.kind} is not installed: {error}") from error


def check_reader_declines(subject: Subject) -> None:
    """Files that are no weights, or of another network, are declined or refused, and nothing in them is run."""
    reader: CheckpointReader = subject.make()
    with fixtures.context() as ctx:
        canary = ctx.folder / "canary"
        for what, path in foreign_files(ctx.folder / "files", canary).items():
            subject.expect(not _sniff(subject, reader, path), "sniff", f"takes {what} for one of its files")
        subject.expect(not canary.exists(), "sniff", "ran code that a file holds: never load a pickle")


def _sample(subject: Subject, path: Path) -> Path:
    if not subject.settings.sample:
        raise CheckSkippedError("KitSettings.sample names no function that writes a file of the format")
    module, _, name = subject.settings.sample.partition(":")
    getattr(importlib.import_module(module), name)(path)
    return path


def check_reader_reads(subject: Subject) -> None:
    """A file of the format is known, and what is read makes finite pictures that differ by their seeds."""
    reader: CheckpointReader = subject.make()
    with fixtures.context() as ctx:
        file = CheckpointFile(_sample(subject, ctx.folder / "sample.pt"))
        subject.expect(subject.call("sniff", reader.sniff, file), "sniff", "does not know a file of its own format")
        found: Checkpoint = subject.call("read", reader.read, file)
    same = (found.kind, found.component) == (reader.kind, reader.component)
    subject.expect(same, "read", f"gives the {found.kind} '{found.component}', but declares '{reader.component}'")
    subject.expect(found.layout and found.source.get("sha256"), "read", "names no layout, or no hash of the file")
    part = subject.call("read", installed().build, found.kind, found.component, dict(found.config))
    subject.call("read", restore, part, {"licence": found.licence, **found.facts}, found.state, "the file")
    subject.call("read", load_state, part, dict(found.state), "the file")
    images = _pictures(part.eval())
    subject.expect(torch.isfinite(images).all(), "read", "the images hold NaN or infinity")
    subject.expect(not torch.equal(images[0], images[1]), "read", "two seeds gave the same image")


def _pictures(part: Generator | Painter) -> Tensor:
    seeds = fixtures.seeds(2)
    if isinstance(part, Painter):
        return part.paint(torch.zeros(2, *part.train_size, dtype=torch.uint8), part.latents(seeds))
    return part.sample(seeds).images


def check_reader_refuses_damage(subject: Subject) -> None:
    """Damaged copies of a file are read, declined or refused with ArtifactError; nothing else leaves."""
    reader: CheckpointReader = subject.make()
    chance = random.Random(5)
    with fixtures.context() as ctx:
        data = _sample(subject, ctx.folder / "sample.pt").read_bytes()
        for i in range(DAMAGED_COPIES):
            copy = bytearray(data)
            at = chance.randrange(len(copy))
            copy[at : at + chance.choice((1, 8))] = chance.randbytes(chance.choice((0, 1, 8)))
            file = CheckpointFile(ctx.folder / f"damaged-{i}.pt")
            file.path.write_bytes(copy[: chance.randrange(len(copy))] if i % 4 == 0 else copy)
            try:
                if reader.sniff(file):
                    reader.read(file)
            except ArtifactError:
                continue
            except Exception as error:
                subject.fail("read", f"a damaged file must raise ArtifactError, got {type(error).__name__}", error)


CHECKPOINT_READER_CHECKS = (
    check_reader_words,
    check_reader_declines,
    check_reader_reads,
    check_reader_refuses_damage,
)
