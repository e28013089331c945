"""`gsegkit run --launcher`: what is refused, what a launcher gets, and a run in pieces is the run."""

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import typer

from gsegkit.api import Session
from gsegkit.api.runs import run_piece
from gsegkit.cli import launching
from gsegkit.cli.main import app
from gsegkit.distributed.launched import Launched, launched
from gsegkit.engine.pieces import Piece
from gsegkit.engine.pipeline import run
from gsegkit.errors import ConfigError, GsegkitError
from gsegkit.launching import Job, Request
from gsegkit.launching.process import Process, environment, together
from gsegkit.testing import Listener


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--launcher", "lokal"], "did you mean 'local'?"),
        (["--launcher", "nothing-like-it"], "installed: "),
        (["--launcher", "local", "--workers", "0"], "--workers 0 is no number of processes"),
        (["--workers", "2"], "--workers was given without a launcher"),
        (["-o", "launcher.threads=2"], "-o launcher.threads was given without a launcher"),
        (
            ["--launcher", "local", "-o", "launcher.thread=2"],
            "launcher.thread: no such option; did you mean 'threads'?",
        ),
        (["--launcher", "local", "-o", "launcher.threads=0"], "launcher.threads: input should be greater"),
        (["--piece", "segmenter"], "--piece 'segmenter' is no piece of this run"),
        (["--piece", "dataset:2/2"], "--piece 'dataset:2/2' is no piece of this run"),
        (["--piece", "extractor-1"], "--piece 'extractor-1' is no piece of this run"),
    ],
)
def test_what_is_wrong_with_a_launcher_is_one_sentence(call, tmp_path, given, said):
    pytest.importorskip("gsegkit_smp")
    code, out, err = call(
        "run", "--gen", "toy", "--extractor", "native", "--seg", "unet", "--out", tmp_path / "run", *given
    )
    assert (code, out) == (2, "")
    assert said in err
    assert not (tmp_path / "run").exists()


def test_a_launcher_inside_another_is_refused(call, tmp_path, monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    code, _, err = call("run", "--gen", "toy", "--extractor", "native", "--seg", "unet", "--launcher", "local")
    assert code == 2
    assert "another launcher has started 2 with this command" in err


def test_a_launcher_gets_the_command_without_its_own_options():
    words = ["--gen", "toy", "--extractor", "native", "--refine", "area", "--refine", "holes", "-o", "gen.size=32",
             "-olauncher.threads=2", "--option=seg.steps=3", "--launcher=local", "--workers=2", "--seed", "0", "--smoke",
             "--update", "--no-refine", "--json", "-q", "--out", "runs/x"]  # fmt: skip
    context = typer.main.get_command(app).commands["run"].make_context("run", list(words))
    own, others = launching.launcher_options(context.params["option"])
    assert own == {"threads": 2}
    assert others == ["gen.size=32", "seg.steps=3"]
    assert launching._again(context) == [
        "--gen", "toy", "--extractor", "native", "--refine", "area", "--refine", "holes", "--no-refine", "--seed", "0",
        "--smoke", "--update", "--quiet",
    ]  # fmt: skip
    assert launching.as_typed(["run", "--gen", "toy", "--piece", "dataset:1/2"]) == "gsegkit run --gen toy"


def test_a_request_is_one_job_or_jobs_that_follow_each_other(tmp_path):
    request = Request(("run", "--gen", "toy"), tmp_path / "out", tmp_path, rounds=2)
    assert request.whole(4) == Job("run", ("run", "--gen", "toy", "--piece", "all"), 4, tmp_path)
    steps = [[(job.arguments[-1], job.processes) for job in jobs] for jobs in request.pieces(4, 2)]
    assert steps == [
        [("extractor", 4)], [("dataset:0/2", 1), ("dataset:1/2", 1)],
        [("extractor-1", 4)], [("dataset-1:0/2", 1), ("dataset-1:1/2", 1)],
        [("all", 4)],
    ]  # fmt: skip


# ---- pieces ----------------------------------------------------------------------------------------------------------


def files(folder, *patterns):
    found = sorted(path for pattern in patterns for path in folder.rglob(pattern))
    assert found
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_a_run_in_pieces_leaves_what_the_run_leaves(plan, registry, tmp_path, monkeypatch):
    """Shares in any order, one of them twice; the fit's and the shares' warnings reach the record."""
    monkeypatch.setattr("gsegkit.engine.synthesis.SHARD_SIZE", 8)
    monkeypatch.setattr("gsegkit.engine.synthesis.COVERAGE_ALARM", 0.1)  # every share warns
    plan = plan.model_copy(update={"rounds": 2})
    whole = run(plan, tmp_path / "one", registry=registry)
    out = tmp_path / "two"

    def piece(text):
        session = Session(registry, Listener(), threading.Event())
        run_piece(plan, Piece.of_text(text, plan), out, update=False, command="", session=session)

    with pytest.raises(GsegkitError, match=r"is not a run folder|not finished"):
        piece("dataset:0/2")
    for round in ("", "-1"):
        piece(f"extractor{round}")
        assert json.loads((out / "run.json").read_text())["status"] == "interrupted"
        for share in (1, 0, 1):
            piece(f"dataset{round}:{share}/2")
        assert len(list((out / f"dataset{round}").glob("shard-*.json"))) == 5
        assert not (out / f"dataset{round}/stage.json").exists()
        if not round:
            with pytest.raises(ConfigError, match=r"'dataset' of .* is not finished"):
                piece("dataset-1:0/2")
    done = run(plan, out, registry=registry)
    assert done.report.metrics == whole.report.metrics
    patterns = ("dataset*/*.safetensors", "config.json", "*/state.safetensors", "*/component.json")
    assert files(tmp_path / "one", *patterns) == files(out, *patterns)
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "done"
    assert any("covers" in text for text in record["warnings"])
    assert not list(out.rglob("warnings-*.json"))


# ---- processes -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Python(Job):
    """A job that executes a line of Python, since gsegkit takes seconds to begin."""

    @property
    def command(self):
        return [sys.executable, "-c", *self.arguments]


def python(line, folder):
    return Python("a line", (line,), 1, folder)


def test_the_environment_is_what_a_process_is_found_by():
    base = {"PATH": "/bin", "RANK": "7", "WORLD_SIZE": "9"}
    assert environment(None, None, base) == {"PATH": "/bin"}
    place = Launched(1, 3, 0, "node1", 29500)
    made = environment(place, None, base)
    assert launched(made) == place
    assert made["OMP_NUM_THREADS"] == "1"
    assert environment(place, None, {"OMP_NUM_THREADS": "4"})["OMP_NUM_THREADS"] == "4"
    assert environment(place, 2, {"OMP_NUM_THREADS": "4"})["OMP_NUM_THREADS"] == "2"


def test_processes_end_with_the_first_status_that_is_an_error(tmp_path):
    never, base = threading.Event(), dict(os.environ)
    said = []
    good, bad = python("print('one'); print('two')", tmp_path), python("import sys; sys.exit(2)", tmp_path)
    killed = python("import os; os.kill(os.getpid(), 9)", tmp_path)
    assert together([Process(good, base, said.append)], never) == 0
    assert said == ["one", "two"]
    assert together([Process(good, base, said.append), Process(bad, base), Process(killed, base)], never) == 2
    assert together([Process(good, base, said.append), Process(killed, base)], never) == 137
    began = time.monotonic()
    slow = Process(python("import time; time.sleep(60)", tmp_path), base)
    assert together([slow, Process(bad, base)], never, patience=0.2) == 2
    assert time.monotonic() - began < 20
    assert slow.ended() is not None, "nobody is left behind"


def test_a_process_is_asked_once_to_stop(tmp_path):
    line = """
import signal, sys, time
count = []
signal.signal(signal.SIGINT, lambda *_: count.append(1))
print('ready', flush=True)
while not count: time.sleep(0.02)
time.sleep(0.5)
sys.exit(128 + len(count))"""
    stop = threading.Event()
    process = Process(python(line, tmp_path), dict(os.environ), lambda text: stop.set())
    assert together([process], stop) == 129


def test_a_process_ends_with_the_one_that_started_it(tmp_path):
    """Here with its standard input, which the system closes when the starter dies, however it dies."""
    line = "from gsegkit.launching.process import follow_starter; import time; follow_starter(); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", line], stdin=subprocess.PIPE) as process:
        time.sleep(0.1)
        process.stdin.close()
        assert process.wait(timeout=30) == 130


def test_a_process_hears_of_a_stop_though_the_one_that_started_it_does_not(tmp_path):
    line = """
import signal, sys, time
from gsegkit.launching.process import follow_starter
signal.signal(signal.SIGINT, lambda *_: sys.exit(7))
follow_starter()
print('ready', flush=True)
time.sleep(60)"""
    stop = threading.Event()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        assert together([Process(python(line, tmp_path), dict(os.environ), lambda text: stop.set())], stop) == 7
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.mark.slow
def test_local_processes_leave_what_one_process_leaves(tmp_path):
    pytest.importorskip("gsegkit_smp")
    words = ["--gen", "toy", "--extractor", "native", "--seg", "unet", "--samples", "600", "-o", "gen.size=32",
             "-o", "seg.steps=4", "-o", "seg.encoder=mobilenet_v2"]  # fmt: skip
    base = os.environ | {"OMP_NUM_THREADS": "1"}
    for name, more in {"one": [], "two": ["--launcher", "local", "--workers", "2", "--json"]}.items():
        done = subprocess.run(
            [sys.executable, "-m", "gsegkit", "run", *words, *more, "--out", str(tmp_path / name)],
            env=base, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"] is not None
    patterns = ("dataset/*.safetensors", "extractor/state.safetensors")  # a segmenter of two is equal up to rounding
    assert files(tmp_path / "one", *patterns) == files(tmp_path / "two", *patterns)
    record = json.loads((tmp_path / "two/run.json").read_text())
    assert (record["status"], record["processes"]) == ("done", 2)
    assert "--launcher" not in record["command"]
