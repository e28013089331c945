"""Runs on real clusters of this machine: workers are killed, and nothing is lost."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

pytest.importorskip("gsegkit_smp")
pytest.importorskip("gsegkit_eval")

#: About 24 shards of pairs, and a training that outlasts the half minute to the first checkpoint.
WORDS = ["--gen", "toy", "--extractor", "native", "--seg", "unet", "--samples", "6000", "-o", "gen.size=64",
         "-o", "seg.steps=400", "-o", "seg.encoder=mobilenet_v2", "--device", "cpu"]  # fmt: skip
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def started(folder, *more, words=WORDS, log=None):
    command = [sys.executable, "-m", "gsegkit", "run", *words, "--out", str(folder), *more]
    return subprocess.Popen(command, env=os.environ | ONE_THREAD, text=True, stdout=subprocess.DEVNULL, stderr=log)


def files(folder, *patterns):
    found = sorted(path for pattern in patterns for path in folder.rglob(pattern))
    assert found
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def waited(look, seconds):
    """What `look` finds as soon as it finds something."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError(f"nothing happened in {seconds} s")


def processes(folder, piece, rank=None):
    """The processes of a run's job."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if str(folder) in words and "--piece" in words and words[-1].startswith(piece):
            try:
                if rank is None or process.environ().get("RANK") == str(rank):
                    found.append(process)
            except psutil.Error:
                continue
    return found


def worker_of(process):
    """The Ray worker that started a process."""
    worker = process.parent()
    assert worker is not None
    assert "ray::" in " ".join(worker.cmdline()), worker.cmdline()
    return worker


def kill_worker(process):
    worker = worker_of(process)
    worker.kill()
    gone, _ = psutil.wait_procs([process], timeout=60)
    assert gone, "the process of a worker ends with it"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_worker_killed_in_synthesis_and_one_in_training_leave_the_run_of_undisturbed_processes(tmp_path):
    with open(tmp_path / "said", "w") as log:
        command = started(tmp_path / "two", "--launcher", "ray", "--workers", "2", log=log)
    try:
        pairs = tmp_path / "two/dataset"
        waited(lambda: list(pairs.glob("shard-*.json")), 600)
        kill_worker(waited(lambda: processes(tmp_path / "two", "dataset:"), 60)[0])
        kept = {path: path.stat().st_mtime_ns for path in pairs.glob("shard-*.safetensors")}
        waited((tmp_path / "two/segmenter/checkpoint.safetensors").exists, 900)
        assert all(path.stat().st_mtime_ns == at for path, at in kept.items()), "finished shards are kept"
        kill_worker(processes(tmp_path / "two", "all", rank=0)[0])
        assert command.wait(timeout=900) == 0, (tmp_path / "said").read_text()
    finally:
        command.kill()
    said = (tmp_path / "said").read_text()
    assert said.count("a worker was lost; it is replaced, and goes on from what is finished") == 2, said
    assert "Traceback" not in said
    assert started(tmp_path / "local", "--launcher", "local", "--workers", "2").wait(timeout=900) == 0
    patterns = ("dataset/*.safetensors", "*/state.safetensors", "report/metrics.json")
    assert files(tmp_path / "local", *patterns) == files(tmp_path / "two", *patterns)
    steps = [line for line in (tmp_path / "two/log.txt").read_text().splitlines() if "segmenter: training:" in line]
    assert len(steps) == 2
    assert "400 of 400 steps" in steps[0]
    assert "400 of 400 steps" not in steps[1], "the second one goes on from the checkpoint"
    record = json.loads((tmp_path / "two/run.json").read_text())
    assert (record["status"], record["processes"]) == ("done", 2)
    assert not [path for path in (tmp_path / "two").iterdir() if path.name.endswith(".tmp")]
    assert not processes(tmp_path / "two", "")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ctrl_c_saves_and_the_same_command_goes_on_without_ray_too(tmp_path):
    quick = [{"seg.steps=400": "seg.steps=4", "6000": "20000"}.get(word, word) for word in WORDS]
    with open(tmp_path / "said", "w") as log:
        command = started(tmp_path / "run", "--launcher", "ray", "--workers", "2", words=quick, log=log)
    try:
        pairs = tmp_path / "run/dataset"
        waited(lambda: list(pairs.glob("shard-*.json")), 600)
        command.send_signal(signal.SIGINT)
        assert command.wait(timeout=300) == 130, (tmp_path / "said").read_text()
    finally:
        command.kill()
    assert ": stopping after this step" in (tmp_path / "said").read_text(), "the workers heard of it"
    assert not processes(tmp_path / "run", "")
    assert not (pairs / "stage.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in pairs.glob("shard-*.safetensors")}
    assert 0 < len(kept) < 40, "of 79; two shares of four had begun"
    assert started(tmp_path / "run", words=quick).wait(timeout=900) == 0
    assert all(path.stat().st_mtime_ns == at for path, at in kept.items()), "finished shards are kept"
