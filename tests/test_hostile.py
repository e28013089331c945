"""A stranger's run folder: nothing in it is executed, nothing outside is touched, and every verb ends in a sentence.

One table: what was done to the folder, and the verbs that meet it. Fuzzing of the same files is in `test_fuzz`.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import struct
import time
from pathlib import Path

import pytest
import torch

from gsegkit import api
from gsegkit.api.session import Session
from gsegkit.engine.choices import choose
from gsegkit.engine.plan import Plan
from gsegkit.engine.preflight import check
from gsegkit.errors import ArtifactError, GsegkitError
from gsegkit.images import write_png
from gsegkit.plugins import discover
from gsegkit.records.memory import Budget
from gsegkit.report import render_report

SECONDS = 5.0  # of work that a verb may take
WAITED = 60.0  # and in all: a machine may have other work, but a pipe is never waited for
MEMORY = 600 << 10  # kilobytes that one case may add
BIG = 10**5


class Bomb:
    """Unpickled, it leaves a file `executed`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


# ---- what is done to the folder ------------------------------------------------------------------------------------


def put(file: str, *keys, **values):
    """Change values of a JSON file, below `keys`."""

    def damage(run: Path) -> None:
        record = json.loads((run / file).read_bytes())
        node = record
        for key in keys:
            node = node[key]
        node.update(values)
        (run / file).write_text(json.dumps(record))

    return damage


def text(file: str, content: str | bytes):
    """Replace a file's content."""

    def damage(run: Path) -> None:
        (run / file).parent.mkdir(parents=True, exist_ok=True)
        (run / file).write_bytes(content.encode() if isinstance(content, str) else content)

    return damage


def link(file: str, target: str):
    """Replace a file by a symbolic link."""

    def damage(run: Path) -> None:
        (run / file).unlink()
        (run / file).symlink_to(target)

    return damage


def pipe(file: str):
    """Replace a file by a pipe that nobody writes to."""

    def damage(run: Path) -> None:
        (run / file).unlink()
        os.mkfifo(run / file)

    return damage


def folder(file: str):
    """Replace a file by a folder."""

    def damage(run: Path) -> None:
        (run / file).unlink()
        (run / file).mkdir()

    return damage


def bomb(file: str):
    """Put a pickle that runs a command in the place of a file."""
    return lambda run: (run / file).write_bytes(pickle.dumps(Bomb(run.parent / "executed")))


def part(kind: str, name: str, **config):
    """Say that a stored part is another one, with these options; `bomb.pth` beside it is a pickle."""

    def damage(run: Path) -> None:
        bomb(f"{kind}/bomb.pth")(run)
        path = str(run / kind / "bomb.pth")
        filled = json.loads(json.dumps(config).replace("BOMB", path))
        record = json.loads((run / kind / "component.json").read_bytes())
        (run / kind / "component.json").write_text(json.dumps({**record, "name": name, "config": filled}))

    return damage


def header(**tensors: list[int]):
    """A state file whose header names tensors of these shapes, without their bytes."""
    table = {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]} for name, shape in tensors.items()}
    data = json.dumps(table).encode()
    return struct.pack("<Q", len(data)) + data + b"\0" * 4


def generator(name: str, **options):
    """Say that the run's generator is another."""

    def damage(run: Path) -> None:
        bomb("bomb.pkl")(run)
        filled = json.loads(json.dumps(options).replace("BOMB", str(run / "bomb.pkl")))
        put("config.json", gen={"name": name, "options": filled})(run)

    return damage


C, S, D = "segmenter/component.json", "segmenter/state.safetensors", "dataset/dataset.json"
WIDE = {"model_options": {"decoder_channels": [16_384] * 5}}
DEEP = "[" * 60_000

CASES = {
    # stored options that would become a path, a class or a keyword of a library
    "a checkpoint for timm": (part("segmenter", "unet", model_options={"checkpoint_path": "BOMB"}), "predict"),
    "a pretrained file": (part("segmenter", "unet", model_options={"pretrained_cfg": {"file": "BOMB"}}), "predict"),
    "a cache folder": (part("segmenter", "unet", model_options={"cache_dir": "BOMB"}), "predict"),
    "an encoder that is a path": (part("segmenter", "unet", encoder="BOMB"), "predict"),
    "an encoder on a hub": (part("segmenter", "unet", encoder="tu-hf-hub:someone/else"), "predict"),
    "an encoder that climbs": (part("segmenter", "unet", encoder="tu-local-dir:BOMB"), "predict"),
    "encoder weights that are a path": (part("segmenter", "unet", encoder_weights="BOMB"), "predict"),
    "a layer that is a class path": (part("segmenter", "unet", model_options={"act_layer": "os.system"}), "predict"),
    "an unknown keyword": (part("segmenter", "unet", model_options={"__class__": "x"}), "predict"),
    "a part by a path": (part("segmenter", "../../bomb"), "predict"),
    "a part by a module": (part("segmenter", "os:system"), "predict"),
    "a part of 100,000 letters": (part("segmenter", "x" * BIG), "predict"),
    "a part of another kind": (put(C, kind="generator"), "predict"),
    "a part with a distribution": (part("segmenter", "tiny@../../evil"), "predict"),
    "an extractor that is a path": (part("extractor", "/etc/passwd"), "names pairs"),
    "a generator with a pickle": (generator("stylegan2", weights="BOMB"), "pairs"),
    "a dcgan with a pickle": (generator("dcgan", weights="BOMB"), "pairs"),
    "weights on another machine": (generator("stylegan2", weights="https://example.org/x.pkl"), "pairs"),
    "weights that are a device": (generator("stylegan2", weights="/dev/zero"), "pairs"),
    "weights that are the run": (generator("toy", weights="."), "pairs replay"),
    "a reader that is a path": (put("config.json", data_reader={"name": "../x", "options": {}}), "replay"),
    "a refiner that is a path": (put("config.json", refine=[{"name": "os:system", "options": {}}]), "replay pairs"),
    "a device that is a path": (put("config.json", device="/dev/zero"), "replay"),
    "photographs of 100,000 letters": (put("config.json", images="x" * BIG), "replay pairs report"),
    "photographs with a zero byte": (put("config.json", photos="a\0b"), "replay pairs"),
    # sizes
    "a network of 100,000 channels": (part("segmenter", "tiny", width=10**8), "predict"),
    "a network of 10^18 channels": (part("segmenter", "tiny", width=10**18), "predict"),
    "a decoder of 16,384 channels": (part("segmenter", "unet", **WIDE), "predict"),
    "a decoder of 10^9 channels": (part("segmenter", "unet", model_options={"decoder_channels": [10**9]}), "predict"),
    "the widest stylegan": (
        generator("stylegan2", weights="none", resolution=1024, channel_base=2**20, channel_max=4096),
        "pairs",
    ),
    "a dcgan of 2,048 channels": (generator("dcgan", channels=2048, channel_max=2048, resolution=256), "pairs"),
    "a toy of 10^9 pixels": (generator("toy", size=10**9), "pairs replay"),
    "a training size of 10^9": (put(C, "facts", train_size=[10**9, 10**9]), "predict"),
    "a training size of 16,384": (put(C, "facts", train_size=[16_384, 16_384]), "predict"),
    "a training size of zero": (put(C, "facts", train_size=[0, 0]), "predict"),
    "a training size in words": (put(C, "facts", train_size=["32", "32"]), "predict"),
    "100,000 classes": (put(C, "facts", classes=[f"c{i}" for i in range(BIG)]), "predict"),
    "classes as a number": (put(C, "facts", classes=10**9), "predict"),
    "10^9 shards": (put(D, num_shards=10**9), "train"),
    "a million shards": (put(D, num_shards=10**6), "train"),
    "no shards": (put(D, num_shards=0), "train"),
    "pairs of 10^9 pixels": (put(D, height=10**9, width=10**9), "train"),
    "10^9 rows": (put("dataset/shard-00000.json", rows=10**9), "train"),
    "10^12 samples": (put("config.json", num_samples=10**12), "replay"),
    "a batch of 10^9": (put("config.json", batch_size=10**9), "replay pairs"),
    "10^9 rounds": (put("config.json", rounds=10**9), "replay predict"),
    "a state of 10^18 numbers": (text(S, header(w=[10**9, 10**9])), "predict"),
    "a header of 2^62 bytes": (text(S, struct.pack("<Q", 2**62) + b"{}"), "predict"),
    "a table of metrics of 70 MB": (text("report/metrics.json", b'{"a": "' + b"x" * (70 << 20) + b'"}'), "report"),
    # nesting
    "a deep component": (text(C, DEEP), "predict"),
    "a deep plan": (text("config.json", '{"gen":' * 60_000), "replay predict report"),
    "a deep status": (text("run.json", DEEP), "report predict"),
    "deep facts": (put(C, "facts", deep=json.loads("[" * 300 + "]" * 300)), "predict"),
    "deep options": (put("config.json", "seg", options=json.loads("[" * 300 + "]" * 300)), "replay"),
    "deep tensors": (text(S, struct.pack("<Q", 60_000) + DEEP.encode()), "predict"),
    "deep metrics": (text("segmenter/metrics.jsonl", DEEP + "\n" + DEEP), "report"),
    "an alias bomb as names": (
        text("classes.yaml", "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
            f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))),
        "names predict report",
    ),
    "a python object as names": (text("classes.yaml", "!!python/object/apply:os.system [touch executed]"), "names"),
    # names
    "a class that steers a terminal": (put(C, "facts", classes=["\x1b]0;x\x07", "b", "c", "d"]), "predict"),
    "a class of 100,000 letters": (put(C, "facts", classes=["x" * BIG, "b", "c", "d"]), "predict"),
    "a class with a path": (put(C, "facts", classes=["../../x", "b", "c", "d"]), "predict"),
    "a class with markup": (put(C, "facts", classes=["<script>x</script>", "[/b]", "c", "d"]), "predict report"),
    "a picture that climbs": (text("report/predictions/index.json", '{"../../../secret": "a"}'), "report"),
    "a picture of an absolute path": (text("report/predictions/index.json", '{"/etc/passwd": "a"}'), "report"),
    "a picture of a script": (text("report/predictions/index.json", '{"000000": "</script><script>x"}'), "report"),
    "a command of a script": (put("run.json", command="</pre><script>x</script>"), "report"),
    "a fit rule that is a class": (put(C, "facts", fit_rule="os.system"), "predict"),
    "files outside as a stage's": (put("segmenter/stage.json", files={"../../../etc/passwd": 1}), "report replay"),
    # files of other sorts
    "a pickle as state": (bomb(S), "predict"),
    "a pickle as component": (bomb(C), "predict"),
    "a pickle as shard": (bomb("dataset/shard-00000.safetensors"), "train"),
    "a pickle as plan": (bomb("config.json"), "replay predict report"),
    "a pickle as picture": (bomb("report/predictions/000000.image.png"), "report"),
    "an endless state": (link(S, "/dev/zero"), "predict"),
    "an endless component": (link(C, "/dev/zero"), "predict"),
    "an endless shard": (link("dataset/shard-00000.safetensors", "/dev/zero"), "train"),
    "endless metrics": (link("segmenter/metrics.jsonl", "/dev/zero"), "report"),
    "a pipe as state": (pipe(S), "predict"),
    "a pipe as component": (pipe(C), "predict"),
    "a pipe as shard": (pipe("dataset/shard-00000.safetensors"), "train"),
    "a pipe as metrics": (pipe("segmenter/metrics.jsonl"), "report"),
    "a pipe as status": (pipe("run.json"), "report predict"),
    "a pipe as picture": (pipe("report/predictions/000000.image.png"), "report"),
    "a folder as state": (folder(S), "predict"),
    "a folder as plan": (folder("config.json"), "replay report"),
    "a link to itself": (link(C, "component.json"), "predict"),
    "a page that is a link": (link("report/index.html", "../../precious/thesis.txt"), "report"),
}  # fmt: skip
FAST = 24  # of the table in the default suite, evenly taken; all of it with -m slow


# ---- the verbs -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory, parts):
    """A finished run of small parts, a photograph, and all that is installed."""
    registry = discover()
    registry.build("segmenter", "unet")  # its libraries are imported here, not while a case is timed
    registry.add(parts.PartsPlugin(), "test-parts", "1")
    session = Session.default()
    session.registry = registry
    plan = Plan.from_options(
        {"gen": "toy", "extractor": "native", "seg": "tiny", "eval": "count", "num_samples": 8, "device": "cpu"},
        ["gen.size=16", "seg.steps=2", "seg.width=2"],
        batch_size=8,
    )
    base = tmp_path_factory.mktemp("hostile")
    api.run_plan(plan, base / "run", session=session)
    write_png(base / "photo.png", torch.zeros(3, 20, 30, dtype=torch.uint8))
    return session, base


def verbs(run: Path, photo: Path, session: Session):
    registry, out = session.registry, run.parent / "out"
    return {
        "predict": lambda: api.predict(run, photo, out / "p", refine=(), device="cpu", session=session),
        "replay": lambda: check(choose(Plan.of_run(run, registry), registry), out / "run"),
        "pairs": lambda: api.synthesize(run, out / "s", 4, device="cpu", session=session),
        "train": lambda: api.train(run, "tiny", out / "t", options={"steps": 1}, device="cpu", session=session),
        "names": lambda: api.name(run, save=out / "classes.yaml", session=session),
        "report": lambda: render_report(run),
    }


def attempt(world, tmp_path: Path, name: str) -> None:
    session, base = world
    damage, wanted = CASES[name]
    run = tmp_path / "run"
    shutil.copytree(base / "run", run)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("mine")
    damage(run)
    for verb in wanted.split():
        began, before = (time.monotonic(), time.process_time()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            verbs(run, base / "photo.png", session)[verb]()
        except GsegkitError as error:
            assert 10 < len(str(error)) < 5000, verb
            assert "\x1b" not in str(error)
        assert time.process_time() - began[1] < SECONDS, verb
        assert time.monotonic() - began[0] < WAITED, verb
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY, verb
    assert {path.name for path in tmp_path.iterdir()} <= {"run", "out", "precious"}  # no file `executed`
    assert [path.name for path in (tmp_path / "precious").iterdir()] == ["thesis.txt"]
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("name", list(CASES)[:: -(-len(CASES) // FAST)])
def test_a_strangers_folder_ends_in_a_sentence(world, tmp_path, name):
    attempt(world, tmp_path, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_strangers_folder_ends_in_a_sentence(world, tmp_path, name):
    attempt(world, tmp_path, name)


def test_the_untouched_folder_goes_through_every_verb(world, tmp_path):
    """Else the table would test that everything is refused."""
    session, base = world
    shutil.copytree(base / "run", tmp_path / "run")
    for verb in verbs(tmp_path / "run", base / "photo.png", session).values():
        verb()


def test_a_part_is_refused_before_it_takes_the_memory():
    made = []
    with pytest.raises(ArtifactError, match="asks for more memory than its stored"), Budget(10_000, "a folder"):
        made.append(torch.nn.Conv2d(8, 8, 3))
        made.append(torch.nn.Conv2d(BIG, BIG, 3))
    assert len(made) == 1
    with pytest.raises(ArtifactError, match="more memory"), Budget(10_000, "a folder"):
        for _ in range(10**6):  # many small ones
            torch.zeros(1)
    with Budget(400 << 20, "a folder"):  # what the stored tensors explain
        torch.empty(400 << 20, dtype=torch.uint8)
