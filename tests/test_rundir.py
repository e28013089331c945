import json
import multiprocessing
import os
import subprocess
import sys

import pytest

from gsegkit.errors import ArtifactError, RunLockedError, StorageError
from gsegkit.rundir import RunFolder, last_round, stage_key


def test_a_second_process_is_refused_and_told_who_works_there(tmp_path):
    folder = RunFolder(tmp_path / "run")
    code = (
        "import sys\nfrom gsegkit.rundir import RunFolder\nfrom gsegkit.errors import RunLockedError\n"
        f"try:\n  with RunFolder({str(folder.path)!r}).locked(): print('got it')\n"
        "except RunLockedError as error: print(error.message)"
    )
    with folder.locked():
        inside = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"in use by process {os.getpid()}" in inside.stdout
    after = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert after.stdout.strip() == "got it"


def _contend(path, barrier, queue):
    barrier.wait()
    try:
        with RunFolder(path).locked():
            queue.put("won")
            barrier.wait()
    except RunLockedError:
        queue.put("lost")
        barrier.wait()


def test_of_many_starters_one_wins(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, queue = context.Barrier(8), context.Queue()
    workers = [context.Process(target=_contend, args=(tmp_path / "r", barrier, queue)) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert sorted(queue.get(timeout=5) for _ in workers) == ["lost"] * 7 + ["won"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot be used"), RunFolder(tmp_path / "file" / "run").locked():
        pass


def test_stage_life(tmp_path):
    run, stage = RunFolder(tmp_path), tmp_path / "extractor"
    assert not run.stage_done(stage, "k1")
    run.begin_stage(stage, "k1")
    (stage / "half.bin").write_text("half")
    run.begin_stage(stage, "k1")
    assert (stage / "half.bin").exists(), "an interrupted stage of the same key goes on"
    run.end_stage(stage, "k1", 1.5, {"pairs": 3})
    assert run.stage_done(stage, "k1")
    assert run.stage_record(stage)["facts"] == {"pairs": 3}
    assert not run.stage_done(stage, "k2")
    (stage / "half.bin").write_text("damaged!")
    assert not run.stage_done(stage, "k1")
    (stage / "half.bin").unlink()
    assert not run.stage_done(stage, "k1")
    run.begin_stage(stage, "k2")
    assert [p.name for p in stage.iterdir()] == ["stage.json.started"], "another key starts from nothing"


def test_own_temporaries_are_removed_at_the_start_and_nothing_else(tmp_path):
    (tmp_path / "dataset" / ".old.tmp").mkdir(parents=True)
    own = [".12-0123abcd.tmp", ".shard-0.json.12-0123abcd.tmp", ".12-0123abcd.tmp.onnx"]
    others = [".thesis.docx.tmp", ".12.tmp", "12-0123abcd.tmp", ".12-0123abcd.tmp.d.x"]
    for name in own + others:
        (tmp_path / "dataset" / name).write_text("x")
    (tmp_path / "dataset" / ".13-0123abcd.tmp").mkdir()
    with RunFolder(tmp_path).locked():
        left = {path.name for path in (tmp_path / "dataset").iterdir()}
    assert left == {*others, ".old.tmp", ".13-0123abcd.tmp"}


def test_status_and_config(tmp_path):
    run = RunFolder(tmp_path)
    with pytest.raises(ArtifactError, match="not a run folder"):
        run.read_config()
    run.write_config({"seed": 1})
    assert run.read_config() == {"seed": 1}
    run.write_status("running", device="cpu")
    run.write_status("done", seconds=3)
    status = json.loads((tmp_path / "run.json").read_text())
    assert (status["status"], status["device"], status["seconds"]) == ("done", "cpu", 3)


def test_stage_keys_depend_on_everything():
    assert stage_key("a", {"x": 1, "y": 2}) == stage_key("a", {"y": 2, "x": 1})
    assert stage_key("a", 1) != stage_key("a", 2)


def test_a_file_system_without_locks_is_called_that(tmp_path, monkeypatch):
    import errno
    import fcntl

    for number in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):

        def fail(handle, operation, number=number):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", fail)
        with pytest.raises(StorageError, match="cannot lock files"), RunFolder(tmp_path / "run").locked():
            pass


def test_the_last_round_of_a_stage(tmp_path):
    for name in ("generator", "generator-2", "generator-10", "generator-odd", "generators-11"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text("")
    (tmp_path / "generator-12").mkdir()
    assert last_round(tmp_path, "generator", "x") == tmp_path / "generator-10"
    assert last_round(tmp_path, "extractor", "x") is None
