"""SIGKILL at random moments: no corrupt file, and the finished result equals the uninterrupted one."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gsegkit.engine.shards import shard_record
from gsegkit.tensors import load_tree, read_safetensors

SCRIPT = """
import sys, torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
import parts
from gsegkit.builtin import hook as builtin
from gsegkit.engine import pipeline
from gsegkit.engine.plan import Plan
from gsegkit.plugins import Registry
registry = Registry()
registry.add(builtin, "gsegkit", "0", "builtin")
registry.add(parts.PartsPlugin(), "test-parts", "1")
real = pipeline.RunContext  # below: a checkpoint after every step, so that kills fall into writes
pipeline.RunContext = lambda **options: real(**options, checkpoint_seconds=0)
plan = Plan.from_options(
    {{"gen": "toy", "extractor": "native", "seg": "tiny", "eval": "count", "num_samples": {samples}, "device": "cpu"}},
    ["gen.size=32", "seg.steps={steps}"], batch_size=16)
print("ready", flush=True)
pipeline.run(plan, sys.argv[1], registry=registry)
"""


def start(out: Path, samples: int, steps: int) -> subprocess.Popen:
    script = SCRIPT.format(tests=str(Path(__file__).parent), samples=samples, steps=steps)
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", script, str(out)], stdout=subprocess.PIPE, env=env)
    assert process.stdout.readline().strip() == b"ready"
    return process


def committed_files_are_whole(out: Path) -> None:
    """Everything that stands under a final name can be read and matches its record."""
    for record in out.glob("dataset/shard-*.json"):
        assert shard_record(out / "dataset", int(record.stem.rpartition("-")[2])) is not None, record
    for path in out.rglob("checkpoint.safetensors"):
        load_tree(path)
    for path in out.rglob("state.safetensors"):
        read_safetensors(path)
    for path in [*out.rglob("component.json"), *out.rglob("stage.json"), *out.glob("*.json")]:
        json.loads(path.read_bytes())


def digest(out: Path) -> dict[str, str]:
    """What a run leaves, without times."""
    names = [*out.glob("dataset/shard-*"), *out.rglob("state.safetensors"), *out.rglob("metrics.json*")]
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in names}


def kill_runs(tmp_path: Path, kills: int, seed: int, samples: int, steps: int) -> None:
    whole = tmp_path / "whole"
    began = time.monotonic()
    assert start(whole, samples, steps).wait() == 0
    length = time.monotonic() - began
    expected = digest(whole)
    assert len(expected) > 6
    rng = random.Random(seed)
    done, number = 0, 0
    while done < kills:
        out = tmp_path / f"killed-{number}"
        number += 1
        finished = False
        while not finished:
            process = start(out, samples, steps)
            try:
                process.wait(timeout=rng.uniform(0, length * 0.5) if done < kills else None)
                assert process.returncode == 0
                finished = True
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                done += 1
                committed_files_are_whole(out)
        assert digest(out) == expected


def test_a_few_kills(tmp_path):
    kill_runs(tmp_path, kills=2, seed=1, samples=600, steps=60)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_thirty_kills(tmp_path):
    kill_runs(tmp_path, kills=30, seed=2, samples=2000, steps=150)
