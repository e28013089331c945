"""Jobs of this machine, through submitit's own executor: they really run, are pre-empted and killed."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
from gsegkit_slurm.clusters import TASK_MODULE, LocalCluster, processes_of
from gsegkit_slurm.config import SlurmConfig
from gsegkit_slurm.launcher import Slurm
from gsegkit_slurm.layout import Layout
from gsegkit_slurm.steps import Step, log_of
from gsegkit_slurm.watching import Waiting, outcome

from gsegkit.errors import InterruptedRunError
from gsegkit.launching import Job, Request

TOY = ["run", "--gen", "toy", "--extractor", "native", "--samples", "600", "--device", "cpu", "-o", "gen.size=32",
       "-o", "run.batch_size=64", "-o", "seg.encoder=mobilenet_v2"]  # fmt: skip
TRAINING = ["-o", "seg.steps=80"]


def launch(out, arguments, workers=2, say=lambda line: None, stop=None, **options):
    request = Request((*arguments, "--out", str(out)), out, out.parent, workers, "cpu")
    launcher = Slurm(SlurmConfig(**{"cluster": "local", "threads": 1, **options}))
    return launcher.launch(request, say, stop or threading.Event())


def files(folder):
    patterns = ("config.json", "*/component.json", "dataset/shard-*", "*/state.safetensors", "report/metrics.json")
    found = sorted(path for pattern in patterns for path in folder.glob(pattern))
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def tasks(out):
    """The processes of submitit that work on a run."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if TASK_MODULE in words and words[-1].startswith(str(out / "jobs")):
            found.append(process)
    return found


def when(condition, action):
    """Do something, once, as soon as something is so; the thread's end says that it was done."""

    def wait():
        while not condition():
            time.sleep(0.05)
        action()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def steps_done(out, least):
    path = out / "segmenter/metrics.jsonl"
    return path.is_file() and any(json.loads(line)["step"] >= least for line in path.read_text().splitlines() if line)


def gsegkit(*words):
    base = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-m", "gsegkit", *map(str, words)], env=base, capture_output=True, text=True)


def test_commands_are_jobs_with_an_outcome_and_a_log(tmp_path):
    """An array of two, the second of which fails."""
    words = (("--version",), ("no-such-command",))
    step = Step(0, tuple(Job(f"job {n} of 2", arguments, 1, tmp_path) for n, arguments in enumerate(words, 1)))
    config, said = SlurmConfig(cluster="local", setup=("export ANSWER=42",)), []
    cluster = LocalCluster(config, Layout(1, 1, 2), tmp_path)
    ids = cluster.submit(step)
    assert Waiting(cluster, step, ids, said.append).wait(threading.Event()) == 0
    assert [outcome(cluster, step, index) for index in (0, 1)] == [0, 2]
    assert "gsegkit 0" in log_of(tmp_path, ids[0]).with_suffix(".out").read_text()
    assert f"job 2 of 2: job {ids[1]} ended with 2; what it left undone" in said[-1]
    assert any("No such command" in line for line in said)


@pytest.mark.slow
def test_a_job_of_this_machine_makes_a_run(tmp_path):
    """The command line, one process, submitit's local executor."""
    pytest.importorskip("gsegkit_smp")
    words = ["run", "--gen", "toy", "--extractor", "native", "--seg", "unet", "--smoke", "--json", "--device", "cpu"]
    words += ["-o", "gen.size=32", "-o", "seg.encoder=mobilenet_v2", "--out", tmp_path / "run"]
    done = gsegkit(
        *words, "--launcher", "slurm", "-o", "launcher.cluster=local", "-o", "launcher.setup=export ANSWER=42"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"]["miou"] is not None
    assert "segmenter: training: 3 steps" in done.stderr, "the job's own lines"
    (folder,) = (tmp_path / "run/jobs").iterdir()
    assert json.loads((folder / "step-0-job-0.json").read_text()) == {"status": 0}
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "done"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_pre_empted_in_training_leave_what_one_leaves(tmp_path):
    """USR2 is what SLURM sends before the limit; submitit starts the job again, and it goes on from its checkpoint."""
    pytest.importorskip("gsegkit_smp")
    words = [*TOY, "--seg", "unet", *TRAINING]
    assert (done := gsegkit(*words, "--out", tmp_path / "one")).returncode == 0, done.stderr
    out, first = tmp_path / "two", []

    def pre_empt():
        first.extend(tasks(out))
        for process in first:
            process.send_signal(signal.SIGUSR2)

    said = []
    thread = when(lambda: steps_done(out, 20), pre_empt)
    assert launch(out, words, say=said.append) == 0, said
    assert not thread.is_alive()
    assert len(first) == 2
    assert not any(process.is_running() for process in first)
    assert any(line.startswith("training: resumed after step") for line in said), said
    assert files(tmp_path / "one") == files(out)
    record = json.loads((out / "run.json").read_text())
    assert (record["status"], record["processes"]) == ("done", 2)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_a_killed_job_left_undone_is_done(tmp_path):
    """A job of the array is killed and the last job makes its shards; then that one is killed, and the command again."""
    pytest.importorskip("gsegkit_smp")
    words = [*TOY, "--seg", "unet", *TRAINING]
    assert (done := gsegkit(*words, "--out", tmp_path / "one")).returncode == 0, done.stderr
    out, said = tmp_path / "two", []

    def processes(number):
        """Of the job of this number, in the order in which they were handed in."""
        pickles = sorted(out.glob("jobs/*/*_submitted.pkl"), key=lambda path: path.stat().st_mtime_ns)
        return processes_of(pickles[number].name.partition("_")[0]) if len(pickles) == number + 1 else []

    def kill(number):
        for process in processes(number):
            process.kill()

    array = when(lambda: processes(2), lambda: kill(2))
    whole = when(lambda: steps_done(out, 20), lambda: kill(3))
    with pytest.raises(Exception, match="ended without a word"):
        launch(out, words, say=said.append)
    assert not array.is_alive()
    assert not whole.is_alive()
    assert any("ended without a word; what it left undone is done by the job that follows" in line for line in said)
    assert json.loads((out / "run.json").read_text())["status"] == "running", "nobody could say how it ended"
    assert launch(out, words) == 0
    assert files(tmp_path / "one") == files(out)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ctrl_c_ends_jobs_of_this_machine_with_everything_saved(tmp_path):
    pytest.importorskip("gsegkit_smp")
    words = [*TOY, "--seg", "unet", *TRAINING]
    out, stop = tmp_path / "run", threading.Event()
    when(lambda: steps_done(out, 20), stop.set)
    with pytest.raises(InterruptedRunError, match="the same command"):
        launch(out, words, stop=stop)
    assert not tasks(out)
    assert (out / "segmenter/checkpoint.safetensors").is_file()
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(shutil.which("sbatch") is None, reason="needs a SLURM cluster; --basetemp in a folder that it sees")
def test_a_cluster_makes_the_same_run_with_a_job_that_reached_its_limit(tmp_path):
    """On a real cluster. scancel sends the signal that SLURM sends before the limit; the job is queued again."""
    words = [*TOY, "--seg", "unet", *TRAINING]
    assert (done := gsegkit(*words, "--out", tmp_path / "one")).returncode == 0, done.stderr
    out, said = tmp_path / "two", []

    def warn():
        (job,) = json.loads((out / "jobs/jobs.json").read_text())["ids"][2]
        subprocess.run(["scancel", "--signal=USR2", job], check=True)

    thread = when(lambda: steps_done(out, 20), warn)
    assert launch(out, words, say=said.append, cluster="slurm") == 0, said
    assert not thread.is_alive()
    assert any(line.startswith("training: resumed after step") for line in said), said
    assert files(tmp_path / "one") == files(out)
