"""SIGKILL at random moments, for every verb that writes: no corrupt file, and the same command ends with the same result.

A server imports everything once and forks a process for each command, so that kills fall into the work and not into
imports. Checkpoints are written after every step, so that kills fall into writes.
"""

import contextlib
import hashlib
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch

from gsegkit.engine.shards import MANIFEST_FILE, Manifest, shard_record
from gsegkit.images import read_image, read_mask, write_png
from gsegkit.storage import file_hash, is_temporary
from gsegkit.tensors import HASH_KEY, load_tree, read_safetensors

SERVER = """
import json, os, sys, threading, traceback
import torch, torch._dynamo, torch.export, torch.onnx
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
import parts
from gsegkit import api
from gsegkit.api import session as sessions
from gsegkit.engine import pipeline
from gsegkit.engine.plan import Plan
from gsegkit.exports import coco, datasets, networks, png, predictions, voc, yolo
from gsegkit.plugins import discover
from gsegkit.progress import Progress
registry = discover()
registry.add(parts.PartsPlugin(), "test-parts", "1")
real = pipeline.RunContext
pipeline.RunContext = sessions.RunContext = lambda **options: real(**options, checkpoint_seconds=0)
session = sessions.Session(registry, Progress(), threading.Event())
PARTS = {{"gen": "toy", "extractor": "native", "seg": "tiny", "eval": "count", "device": "cpu"}}
run = lambda samples, steps, out: pipeline.run(
    Plan.from_options({{**PARTS, "num_samples": samples}}, ["gen.size=16", f"seg.steps={{steps}}", "seg.width=2"], batch_size=8),
    out, registry=registry)
same = dict(session=session, device="cpu")
VERBS = {{
    "run": lambda base, out: run(600, 20, out),
    "train": lambda base, out: api.train(base + "/run", "tiny", out, options={{"steps": 40, "width": 2}}, **same),
    "train-generator": lambda base, out: api.train_generator(
        "mean", base + "/photos", out, options={{"steps": 60}}, **same),
    "synthesize": lambda base, out: api.synthesize(base + "/run", out, 900, **same),
    "predict": lambda base, out: api.predict(
        base + "/run", base + "/photos", out, formats=("label", "overlay", "coco", "yolo", "voc"), refine=(), **same),
    "export torch": lambda base, out: api.export(base + "/run", out, "torch", session=session, dynamic=False),
    "export png": lambda base, out: api.export(base + "/run", out, "png", session=session),
    "export coco": lambda base, out: api.export(base + "/run", out, "coco", session=session),
    "make": lambda base, out: run(300, 5, out),
}}
torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # imports the rest
print("ready", flush=True)
for line in sys.stdin:
    verb, base, out = json.loads(line)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            VERBS[verb](base, out)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""
VERBS = ("run", "train", "train-generator", "synthesize", "predict", "export torch", "export png", "export coco")
APPEAR_WHOLE = ("export png", "export coco")  # new folders, which are never written to again
KILLS_IN_A_ROW = 4  # then the command may finish
KEPT_TIMES = ("hashes.json", "run.json", "log.txt", "index.html", "stage.json", ".lock")  # hold times


class Server:
    """Runs commands, each in a process of its own, for a limited time."""

    def __init__(self, base: Path) -> None:
        self.base = base
        script = SERVER.format(tests=str(Path(__file__).parent))
        self.process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            bufsize=0,
        )
        assert self.line() == "ready"

    def line(self) -> str:
        return self.process.stdout.readline().decode().strip()

    def call(self, verb: str, out: Path, seconds: float | None = None) -> bool:
        """Whether the command finished; else it was killed after `seconds`."""
        self.process.stdin.write(json.dumps([verb, str(self.base), str(out)]).encode() + b"\n")
        child = int(self.line())
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        if not ready:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        status = int(self.line())
        assert status in (0, signal.SIGKILL), (verb, status)
        return status == 0


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server, and what its commands read: a run, and 20 photographs of three sizes."""
    base = tmp_path_factory.mktemp("kill")
    (base / "photos").mkdir()
    for i in range(20):
        pixels = torch.randint(0, 256, (3, 40 + 30 * (i % 3), 60), dtype=torch.uint8)
        write_png(base / "photos" / f"{i:02d}.png", pixels)
    server = Server(base)
    assert server.call("make", base / "run")
    yield server
    server.process.stdin.close()
    server.process.wait(timeout=60)


def files(out: Path) -> list[Path]:
    """Everything under a final name."""
    return sorted(path for path in out.rglob("*") if path.is_file() and not is_temporary(path))


def committed_files_are_whole(out: Path) -> None:
    """Everything that stands under a final name can be read and matches its record."""
    for path in files(out):
        if path.name == "checkpoint.safetensors":
            load_tree(path)
        elif path.suffix == ".safetensors":
            read_safetensors(path)
        elif path.suffix == ".json" or path.name.endswith(".started"):
            json.loads(path.read_bytes())
        elif path.suffix == ".png":
            (read_mask if "mask" in path.parts[-2] or "label" in path.parts[-2] else read_image)(path)
        elif path.suffix == ".pt2":
            assert json.loads(path.with_name(f"{path.name}.json").read_bytes())["sha256"] == file_hash(path)
    for record in out.rglob("shard-*.json"):
        manifest = Manifest.read(record.parent / MANIFEST_FILE)
        assert shard_record(record.parent, int(record.stem.rpartition("-")[2]), manifest) is not None, record


def digest(out: Path) -> dict[str, str]:
    """What a command leaves, without times."""
    found = [path for path in files(out) if path.name not in KEPT_TIMES]
    return {path.relative_to(out).as_posix(): content_hash(path) for path in found}


def content_hash(path: Path) -> str:
    """Of what a file holds, where the same content may stand in other bytes.

    A checkpoint carries a hash, and its two lines of metadata stand in any order. An exported graph may name its nodes
    in other ways: compared are its weights and facts, and the parity with the segmenter that its card states.
    """
    if path.name == "checkpoint.safetensors":
        return read_safetensors(path)[1][HASH_KEY]
    data = path.read_bytes()
    if path.suffix == ".pt2":
        with zipfile.ZipFile(path) as file:
            names = [name for name in sorted(file.namelist()) if "/data/weights/weight" in name or "/extra/" in name]
            data = b"".join(file.read(name) for name in names)
    if path.name.endswith(".pt2.json"):
        data = json.dumps({**json.loads(data), "sha256": "", "replaces": ""}).encode()
    return hashlib.sha256(data).hexdigest()


def kill_commands(server: Server, tmp_path: Path, verb: str, kills: int, seed: int) -> None:
    began = time.monotonic()
    assert server.call(verb, tmp_path / "whole")
    length = time.monotonic() - began
    expected = digest(tmp_path / "whole")
    assert expected
    rng = random.Random(f"{verb}-{seed}")
    done, number = 0, 0
    while done < kills:
        out = tmp_path / f"killed-{number}"
        number += 1
        for _ in range(min(KILLS_IN_A_ROW, kills - done)):
            if server.call(verb, out, rng.uniform(0, length)):
                break
            done += 1
            committed_files_are_whole(out)
            if verb in APPEAR_WHOLE and out.exists():  # the kill fell behind the last step
                break
        else:
            assert server.call(verb, out)
        assert digest(out) == expected
        assert not [path for path in tmp_path.iterdir() if is_temporary(path)]  # beside it
        shutil.rmtree(out)
    print(f"{verb}: {done} kills, {number} results equal, {length:.1f} s whole")


@pytest.mark.parametrize("verb", VERBS)
def test_a_few_kills(server, tmp_path, verb):
    kill_commands(server, tmp_path, verb, kills=2, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("verb", VERBS)
def test_two_hundred_kills(server, tmp_path, verb):
    kill_commands(server, tmp_path, verb, kills=29, seed=2)
