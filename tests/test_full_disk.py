"""A full disk: every writer says so in a sentence, leaves no unfinished file behind, and never ends the process.

The limit on the size of a file (RLIMIT_FSIZE) stands in for the disk: a write beyond it fails as on a full one.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

resource = pytest.importorskip("resource")

PROGRAM = '''
"""Run every writer under a limit of bytes for a file; print what came of it. Its own process: one writer aborted it."""
import importlib.util, json, resource, sys, traceback
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gsegkit.context import RunContext
from gsegkit.dataset import MemoryDataset
from gsegkit.errors import GsegkitError
from gsegkit.exports.datasets import export_dataset
from gsegkit.exports.formats import DATASET_FORMATS, MODEL_FORMATS, PREDICTION_FORMATS
from gsegkit.exports.networks import export_model
from gsegkit.exports.predictions import predict_files
from gsegkit.parts import save_part
from gsegkit.progress import Journal, Progress
from gsegkit.rundir import RunFolder
from gsegkit.storage import atomic_write_json

spec = importlib.util.spec_from_file_location("parts", sys.argv[2])
parts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(parts)

here, limit = Path(sys.argv[1]), int(sys.argv[3])
generator = torch.Generator().manual_seed(0)
pixels = torch.randint(0, 256, (4, 3, 72, 96), dtype=torch.uint8, generator=generator)
masks = torch.randint(0, 3, (4, 72, 96), dtype=torch.uint8, generator=generator)
pairs = MemoryDataset(pixels, masks, ("background", "cell", "nucleus"))
segmenter = parts.TinySegmenter(parts.TinyConfig(width=64))
segmenter.restore({"classes": pairs.classes, "train_size": (72, 96), "fit_rule": "squash"})
photographs = here / "photographs"
photographs.mkdir()
for number, one in enumerate(pixels):
    Image.fromarray(one.permute(1, 2, 0).numpy()).save(photographs / f"{number}.png")


def locked(folder):
    run = RunFolder(folder)
    with run.locked():
        run.write_config({"gen": {"name": "x" * 5000}})


def metrics(folder):
    for _ in RunContext(folder, checkpoint_seconds=0).steps(3, state={"net": segmenter}):
        pass


def journal(folder):
    """A log is not worth a run: what comes next says that the disk is full."""
    folder.mkdir()
    log = Journal(Progress(), folder / "log.txt")
    for _ in range(200):
        log.message(f"a line of a file called caf{chr(0xDCE9)}.png", "warning")
    assert len(log.warnings) == 200
    atomic_write_json(folder / "record.json", log.warnings)


jobs = {f"model {name}": lambda out, name=name: export_model(segmenter, out, name) for name in MODEL_FORMATS if limit}
jobs |= {f"pairs {name}": lambda out, name=name: export_dataset(pairs, out, name) for name in DATASET_FORMATS}
jobs |= {
    f"predictions {name}": lambda out, name=name: predict_files(segmenter, photographs, out, name)
    for name in PREDICTION_FORMATS
}
jobs |= {
    "part": lambda out: save_part(segmenter, out, "segmenter", "tiny"),
    "record": lambda out: atomic_write_json(out / "record.json", list(range(5000))),
    "run": locked,
    "steps": metrics,
    "journal": journal,
}
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for job, write in jobs.items():
    out = here / job.replace(" ", "-")
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        write(out)
        said = "nothing was said"
    except GsegkitError as error:
        said = f"{error.message} | {error.hint}"
    except BaseException as error:
        said = "raw: " + "".join(traceback.format_exception(error))[-900:]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    left = [path.name for path in here.rglob("*") if ".tmp" in path.name or path.name.endswith((".onnx", ".pt2"))]
    print(json.dumps([job, said, left]), flush=True)
'''
MODELS, OTHERS = 2, 6 + 5 + 5  # tracing a model takes long: once is enough


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("limit", "count"), [pytest.param(0, OTHERS, marks=pytest.mark.slow), (700, MODELS + OTHERS)])
def test_every_writer_says_that_the_disk_is_full(tmp_path, limit, count):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(Path(__file__).parent / "parts.py"), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == count
    for job, said, left in told:
        assert "no space left" in said, (job, said)
        assert left == [], (job, left)
