"""Every stored file of a run, damaged in thousands of ways: an error in words or a result, never a traceback or a hang.

Three hundred mutations in the fast suite, 20,000 with `-m slow`.
"""

from __future__ import annotations

import copy
import json
import random
import resource
import shutil
import time
from pathlib import Path

import pytest
import torch

from gsegkit.api import run_plan
from gsegkit.api.session import Session
from gsegkit.builtin import hook as builtin
from gsegkit.classes.class_map import ClassMap, class_map_yaml, read_class_map, stored_class_map
from gsegkit.context import read_metrics
from gsegkit.engine.choices import choose
from gsegkit.engine.claim import claim_photographs
from gsegkit.engine.plan import Plan
from gsegkit.engine.preflight import check
from gsegkit.engine.shards import ShardDataset
from gsegkit.engine.sources import open_part
from gsegkit.errors import GsegkitError
from gsegkit.images import read_image, read_mask
from gsegkit.parts import find_part
from gsegkit.plugins import Registry
from gsegkit.report import pictures, read, render_report
from gsegkit.rundir import PHOTOGRAPHS_FILE, RunFolder, stage_folders
from gsegkit.storage import atomic_write_json

SECONDS = 5.0
CLASSES = ("background", "disc", "square")  # of the toy
MEMORY = 1 << 20  # kilobytes

HOSTILE = [
    None, True, -1, 0, 1, 3, 10**9, 10**18, 10**30, -0.5, 1e308, "", "x", "3", "x" * 100_000, "../../../etc/passwd", "/dev/zero",
    "a\x1b[31m\n", "\udce9", [], {}, [[]], {"a": {"b": []}}, [1] * 1000, {"": ""}, ["x"] * 300,
]  # fmt: skip
TEXTS = [
    b"",
    b"[]",
    b"{}",
    b"null",
    b"[" * 60_000,
    b'{"a":' * 60_000,
    b"NaN",
    b"1e999",
    b"1" * 6000,
    b"\xff\xfe\x00",
    b"\x00" * 99,
]
TOKENS = [b"NaN", b"1e999", b"[[[[", b"}", b'"', b"\x00", b"\xff", b"9" * 40, b"-", b"&a [*a]", b": {", b"\n"]


@pytest.fixture(scope="module")
def world(tmp_path_factory, parts):
    """A registry of the built-in and the small test parts, and a finished run that has every stored file."""
    registry = Registry()
    registry.add(builtin, "gsegkit", "0", "builtin")
    registry.add(parts.PartsPlugin(), "test-parts", "1")
    plan = Plan.from_options(
        {"gen": "toy", "extractor": "native", "seg": "tiny", "eval": "count", "num_samples": 16, "device": "cpu"},
        ["gen.size=32", "seg.steps=3"],
        batch_size=8,
    )
    run = tmp_path_factory.mktemp("fuzz") / "run"
    session = Session.default()
    session.registry = registry
    run_plan(plan, run, session=session)
    atomic_write_json(run / PHOTOGRAPHS_FILE, {"a.png": "0" * 64})
    names = [{"name": "ground", "clusters": [0, 2]}, {"name": "leaf", "colour": "#44aa22", "clusters": [1]}]
    (run / "classes.yaml").write_text(class_map_yaml(ClassMap(extractor="0" * 16, cut=3, classes=names)))
    return registry, run


def readers(path: Path, run: Path, registry: Registry):
    """What reads a stored file, by its name."""
    source, cpu = read.Source(run), torch.device("cpu")
    kind = path.parent.name
    by_name = {
        "component.json": [lambda: open_part(run, kind, registry, cpu)],
        "state.safetensors": [lambda: open_part(run, kind, registry, cpu)],
        "dataset.json": [lambda: every(ShardDataset(path.parent))],
        "config.json": [
            lambda: check(choose(Plan.of_run(run, registry), registry), run.parent / "other"),
            lambda: find_part(run, "generator"),
            lambda: find_part(run, "segmenter"),
            lambda: stored_class_map(run),
            lambda: read.overview(source),
        ],
        "run.json": [
            lambda: RunFolder(run).read_status(),
            lambda: stored_class_map(run),
            lambda: read.overview(source),
        ],
        "stage.json": [
            lambda: RunFolder(run).stage_done(path.parent, "0" * 16),
            lambda: (
                RunFolder(run).stage_done(path.parent, json.loads(path.read_bytes())["key"]) if intact(path) else None
            ),
            lambda: read.timings(source),
        ],
        "metrics.json": [lambda: shown(read.metrics(source))],
        "metrics.jsonl": [lambda: read_metrics(path), lambda: read.curves(source)],
        "index.json": [lambda: pictures.predictions(source, path.parent, {}, CLASSES)],
        "photographs.json": [lambda: claim_photographs(RunFolder(run), {"a.png": "0" * 64}, update=False)],
        "classes.yaml": [lambda: read_class_map(path)],
    }
    if path.suffix == ".png":
        return [
            lambda: read_image(path),
            lambda: read_mask(path),
            lambda: pictures.predictions(source, path.parent, {}, CLASSES),
        ]
    if path.name.startswith("shard-"):
        return [lambda: every(ShardDataset(path.parent))]
    return by_name[path.name]


def every(pairs: ShardDataset) -> None:
    """Read everything of a data set."""
    pairs.seeds(), pairs.scores()
    for index in range(min(len(pairs), 4)):
        sample = pairs[index]
        assert sample.pixels.shape[1:] == sample.mask.shape


def intact(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_bytes()).get("key"), str)
    except Exception:
        return False


def shown(found: dict | None) -> None:
    if found is not None:
        read.image_columns(found["per_image"])


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A damaged copy: of its JSON tree where it is JSON, else of its bytes."""
    try:
        tree = json.loads(data)
    except ValueError:
        tree = None
    how = rng.randrange(8)
    if tree is not None and how < 5:
        box = [tree]
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            change(box, rng)
        return json.dumps(box[0]).encode()
    if how == 5:
        return rng.choice(TEXTS)
    if how == 6:
        return data[: rng.randrange(len(data) + 1)]
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(changed) + 1)
        changed[at : at + rng.choice((0, 1, 4))] = rng.choice([*TOKENS, bytes([rng.randrange(256)])])
    return bytes(changed)


def change(box: list, rng: random.Random) -> None:
    """Replace, remove or rename one node of a tree."""
    spots = []
    stack: list = [box]
    while stack:
        node = stack.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node))
        for key in keys:
            spots.append((node, key))
            if isinstance(node[key], dict | list):
                stack.append(node[key])
    node, key = rng.choice(spots)
    how = rng.randrange(8)
    if how == 0 and isinstance(node, dict):
        del node[key]
    elif how == 1 and isinstance(node, dict):
        node[rng.choice(("", "x", "../x", "\x1b", "name"))] = node.pop(key)
    elif how == 2:
        deep: list = []
        for _ in range(rng.choice((3, 90, 400))):
            deep = [deep]
        node[key] = deep
    elif how == 3:
        node[key] = float(rng.choice(("nan", "inf", "-inf")))
    else:
        node[key] = copy.deepcopy(rng.choice(HOSTILE))


def fuzz(world, tmp_path, count: int, seed: int) -> None:
    registry, original = world
    run = tmp_path / "run"
    shutil.copytree(original, run)
    files = [
        path for path in sorted(run.rglob("*")) if path.is_file() and path.suffix not in (".html", ".txt", ".lock")
    ]
    files = [path for path in files if path.name != ".lock"]
    pngs = [path for path in files if path.suffix == ".png"]
    files = [path for path in files if path not in pngs[2:]]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    failures = []
    for number in range(count):
        rng = random.Random(f"{seed}-{number}")
        path = files[number % len(files)]
        whole = path.read_bytes()
        path.write_bytes(mutated(whole, rng))
        calls = readers(path, run, registry)
        calls += [lambda: render_report(run)] if number % 100 == 0 else []
        for call in calls:
            began = time.monotonic()
            try:
                call()
            except GsegkitError as error:
                if len(str(error)) > 5000:
                    failures.append((seed, number, path.name, f"a message of {len(str(error))} characters"))
            except Exception as error:
                failures.append((seed, number, path.name, f"{type(error).__name__}: {str(error)[:200]}"))
            if time.monotonic() - began > SECONDS:
                failures.append((seed, number, path.name, f"{time.monotonic() - began:.1f} s"))
        path.write_bytes(whole)
        if not (run / PHOTOGRAPHS_FILE).exists():
            atomic_write_json(run / PHOTOGRAPHS_FILE, {"a.png": "0" * 64})
    assert stage_folders(run)
    assert not failures, (len(failures), failures[:20])
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after < max(MEMORY, before + MEMORY // 4)


def test_a_damaged_file_of_a_run_is_an_error_in_words(world, tmp_path):
    fuzz(world, tmp_path, 300, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_20000_damaged_files_of_a_run_are_errors_in_words(world, tmp_path):
    fuzz(world, tmp_path, 20_000, seed=1)
