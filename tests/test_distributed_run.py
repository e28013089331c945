"""A run over several processes leaves the folder that one process leaves."""

import hashlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import torch

from gsegkit.context import RunContext
from gsegkit.engine.choices import choose
from gsegkit.engine.followed import run_folder
from gsegkit.engine.pipeline import run
from gsegkit.engine.stages import StageRunner
from gsegkit.engine.synthesis import synthesize
from gsegkit.errors import ConfigError, GsegkitError, RunLockedError
from gsegkit.rundir import RunFolder
from gsegkit.testing import Listener
from gsegkit.testing.processes import outcomes, together


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def files(folder, *patterns):
    found = sorted(path for pattern in patterns for path in folder.rglob(pattern))
    assert found
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.fixture
def parts_of(registry):
    """A generator and its extractor, 1,500 pairs of which are six shards."""
    toy, native = registry.build("generator", "toy", {"size": 16}), registry.build("extractor", "native")
    native.fit(toy, RunContext("."))
    return lambda folder, team, **more: synthesize(
        toy, native, (), 1500, RunContext(folder, batch_size=64, team=team, **more)
    )


def test_pairs_are_bit_identical_whatever_the_number_of_processes_and_a_resume_with_another(parts_of, tmp_path):
    made = {}
    for size in (1, 2, 3):
        counts = together(size, lambda team, size=size: len(parts_of(tmp_path / str(size), team)))
        assert counts == [1500] * size
        made[size] = files(tmp_path / str(size), "*")
    assert made[1] == made[2] == made[3]

    def stopped(team):
        stop = threading.Event()
        if team.rank == 1:  # the third machine's user presses Ctrl-C there
            stop.set()
        parts_of(tmp_path / "again", team, stop=stop)

    assert all(isinstance(error, GsegkitError) for error in outcomes(2, stopped))
    before = list((tmp_path / "again").glob("shard-*.json"))
    assert 0 < len(before) < 6
    times = {path: path.stat().st_mtime_ns for path in before}
    together(3, lambda team: parts_of(tmp_path / "again", team) and None)
    assert files(tmp_path / "again", "*") == made[1]
    assert all(path.stat().st_mtime_ns == at for path, at in times.items()), "finished shards are kept"


def test_a_run_of_two_processes_leaves_what_one_leaves_and_the_first_alone_speaks(plan, registry, tmp_path):
    alone = run(plan, tmp_path / "one", registry=registry)

    def work(team):
        said = Listener()
        done = run(plan, tmp_path / "two", registry=registry, progress=said, team=team)
        return done.report and done.report.metrics, len(said.infos)

    first, second = together(2, work)
    assert first[0] == alone.report.metrics
    assert second == (None, 0)
    assert first[1] > 0
    patterns = ("dataset/*.safetensors", "config.json", "*/state.safetensors", "*/component.json")
    assert files(tmp_path / "one", *patterns) == files(tmp_path / "two", *patterns)
    status = json.loads((tmp_path / "two/run.json").read_text())
    assert (status["status"], status["processes"]) == ("done", 2)
    assert json.loads((tmp_path / "one/run.json").read_text())["processes"] == 1

    def again(team):
        said = Listener()
        run(plan, tmp_path / "one", registry=registry, progress=said, team=team)
        return [line for line in said.infos if "reused" in line]

    assert together(3, again)[0] == ["extractor: reused", "dataset: reused", "segmenter: reused"]


def test_what_goes_wrong_in_the_first_process_ends_all(plan, registry, tmp_path):
    with RunFolder(tmp_path / "run").locked():
        first, second = outcomes(2, lambda team: run(plan, tmp_path / "run", registry=registry, team=team) and None)
    assert isinstance(first, RunLockedError)
    assert "is in use by" in second.message
    assert second.message.startswith("process 0: ")


def test_a_full_disk_on_one_machine_stops_all_and_nothing_is_lost(plan, registry, tmp_path):
    wanted = plan.model_copy(update={"num_samples": 600})  # three shards

    def full(team):
        if team.rank == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        run(wanted, tmp_path / "run", registry=registry, team=team)

    first, second = outcomes(2, full)
    assert "no space left while writing" in second.message
    assert first.message == f"process 1: {second.message}"
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").glob("extractor/*")}
    assert kept
    together(2, lambda team: run(wanted, tmp_path / "run", registry=registry, team=team) and None)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_processes_with_different_plans_stop_before_anything_is_written(plan, registry, tmp_path):
    other = plan.model_copy(update={"seed": 5})
    found = outcomes(
        2, lambda team: run(other if team.rank else plan, tmp_path / "run", registry=registry, team=team) and None
    )
    assert [type(error) for error in found] == [ConfigError] * 2
    assert "the processes differ in the plan's seed: process 0 has '0', process 1 has '5'" in found[0].message
    assert not (tmp_path / "run").exists()


def test_a_warning_of_another_process_reaches_the_user_once(plan, registry, tmp_path, monkeypatch):
    make = synthesize

    def warned(generator, extractor, refiners, count, ctx, **more):
        ctx.warn(f"process {ctx.team.rank} saw something")
        ctx.warn("all saw this")
        return make(generator, extractor, refiners, count, ctx, **more)

    monkeypatch.setattr("gsegkit.engine.rounds.synthesize", warned)

    def work(team):
        said = Listener()
        run(plan, tmp_path / "run", registry=registry, progress=said, team=team)
        return said.warnings

    warnings, silent = together(2, work)
    assert not silent
    assert [line for line in warnings if "saw" in line] == [
        "process 0 saw something", "all saw this", "process 1 saw something",
    ]  # fmt: skip


def test_a_generator_is_not_trained_by_several_processes(registry, tmp_path, plan):
    generator = registry.build("generator", "toy", {"size": 16})

    def work(team):
        stages = StageRunner(run_folder(tmp_path, team), RunContext(tmp_path, team=team), registry)
        stages.fit("generator", 0, "key", generator, choose(plan, registry)["gen"], lambda ctx: None)

    first, second = outcomes(2, work)
    for error in (first, second):
        assert "the training of generator 'Toy' uses one process, and 2 were started" in error.message
        assert "by itself" in error.hint


# ---- the command ----------------------------------------------------------------------------------------------------


def start(folder, rank, size, port, *more):
    place = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    environment = os.environ | {name: str(value) for name, value in place.items()} | {"OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "gsegkit",
        "run",
        *["--gen", "toy", "--extractor", "native", "--seg", "unet"],
        *more,
    ]
    return subprocess.Popen(
        [*command, "--out", str(folder)], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_commands_that_do_not_divide_their_work_refuse_several_processes(call, monkeypatch, tmp_path):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "photos").mkdir()
    code, _, said = call("start", tmp_path / "photos", "--out", tmp_path / "out", "--hours", "1")
    assert code == 2
    assert "this command uses one process, and 2 were started" in said


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_command_with_one_sentence_and_it_goes_on_with_another_number(tmp_path):
    port = free_port()
    more = ("--samples", "20000", "-o", "gen.size=64", "-o", "seg.steps=4", "-o", "seg.encoder=mobilenet_v2")
    first, second = (start(tmp_path / "run", rank, 2, port, *more) for rank in range(2))
    until = time.monotonic() + 120
    while len(list((tmp_path / "run").glob("dataset/shard-*.json"))) < 3 and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(second.pid, signal.SIGKILL)
    killed = time.monotonic()
    out, said = first.communicate(timeout=60)
    second.communicate()
    assert time.monotonic() - killed < 60
    assert first.returncode == 2, said
    assert out == ""
    errors = [line for line in said.splitlines() if "error" in line.lower() or "lost" in line]
    assert len(errors) == 1, said
    assert re.fullmatch(r"error: process 1 on \S+ of 2 processes was lost, so all end", errors[0])
    assert "Traceback" not in said
    shards = {path: path.stat().st_mtime_ns for path in (tmp_path / "run/dataset").glob("shard-*.safetensors")}
    smaller = ("--samples", "1000", *more[2:])
    alone = subprocess.run(
        [sys.executable, "-m", "gsegkit", "run", "--gen", "toy", "--extractor", "native", "--seg", "unet", *smaller,
         "--out", str(tmp_path / "small")],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    pair = [start(tmp_path / "three", rank, 3, port, *smaller) for rank in range(3)]
    said = [process.communicate(timeout=200) for process in pair]
    assert [process.returncode for process in pair] == [0, 0, 0], said
    assert said[1] == said[2] == ("", "")
    assert files(tmp_path / "small", "dataset/*.safetensors") == files(tmp_path / "three", "dataset/*.safetensors")
    assert shards
