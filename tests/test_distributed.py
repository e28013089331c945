"""Several processes work as one: the same results, one sentence at the end, nobody waits for ever."""

import os
import signal
import time

import pytest
import torch

from gsegkit.distributed.agreement import check_agreed, check_shared
from gsegkit.distributed.launched import launched
from gsegkit.distributed.processes import join
from gsegkit.distributed.team import Team
from gsegkit.errors import ConfigError, DataError, GsegkitError, InterruptedRunError, LostProcessError, StorageError
from gsegkit.testing.processes import Ended, outcomes, together

PLACE = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


def test_the_environment_of_a_launcher_is_read():
    place = launched(PLACE)
    assert (place.rank, place.size, place.local_rank, place.host, place.port) == (1, 2, 1, "localhost", 29500)
    assert launched({}) is None
    assert launched({**PLACE, "WORLD_SIZE": "1", "RANK": "0"}) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"RANK": "2"}, "RANK='2' is not a number from 0 to 1"),
        ({"WORLD_SIZE": "many"}, "WORLD_SIZE='many'"),
        ({"MASTER_PORT": "70000"}, "MASTER_PORT"),
        ({"MASTER_ADDR": ""}, "MASTER_ADDR is not set"),
        ({"RANK": ""}, "RANK is not set"),
    ],
)
def test_an_environment_that_says_too_little_is_refused(change, words):
    with pytest.raises(ConfigError, match=words):
        launched({**PLACE, **change})


def test_a_process_that_meets_nobody_says_so(monkeypatch):
    for name, value in {**PLACE, "RANK": "0", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="process 0 did not meet all of 2 processes"):
        join(launched({**PLACE, "RANK": "0"}), meeting=1)


def _talk(team):
    numbers = torch.randn(7, 5, generator=torch.Generator().manual_seed(3))
    total = torch.zeros(5)
    computed = []

    def work(row):
        computed.append(row)
        return numbers[row] / 3, torch.tensor(row), torch.zeros(0, 2, dtype=torch.bool), numbers[row].bfloat16()

    for part, row, empty, short in team.map(work, range(7)):
        total += part
        assert empty.shape == (0, 2)
        assert torch.equal(short, numbers[int(row)].bfloat16())
    return {
        "total": total.numpy().tobytes(),
        "computed": computed,
        "told": team.told({"rank": team.rank}),
        "gathered": team.gather("x" * team.rank),
        "any": team.any(team.rank == team.size - 1),
        "sum": int(team.sum(torch.tensor(team.rank + 1))),
        "share": team.share(range(7)),
    }


def test_processes_divide_a_loop_and_all_get_the_same_bits():
    alone = _talk(Team())
    for size in (2, 3):
        found = together(size, _talk)
        for rank, mine in enumerate(found):
            assert mine["total"] == alone["total"]
            assert mine["computed"] == mine["share"] == list(range(rank, 7, size))
            assert mine["told"] == {"rank": 0}
            assert mine["gathered"] == ["x" * other for other in range(size)]
            assert mine["any"] is True
            assert mine["sum"] == size * (size + 1) // 2


def test_processes_that_differ_all_say_the_same_sentence(tmp_path):
    def work(team):
        check_shared(team, tmp_path)
        check_agreed(team, {"seed": "3", "the version of torch": "2.10" if team.rank else "2.9"})

    found = outcomes(2, work)
    assert all(isinstance(error, ConfigError) for error in found)
    assert {error.message for error in found} == {
        "the processes differ in the version of torch: process 0 has '2.9', process 1 has '2.10'"
    }
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_shared_is_found(tmp_path):
    def work(team):
        (tmp_path / str(team.rank)).mkdir()
        check_shared(team, tmp_path / str(team.rank), visible_after=0.2)

    found = outcomes(2, work)
    assert [type(error) for error in found] == [StorageError] * 2
    assert "process 1 does not see the folder of process 0" in found[0].message


def test_an_error_in_one_process_ends_the_others_with_its_sentence():
    def work(team):
        if team.rank == 1:
            raise DataError("the disk of this machine is full", "free some space")
        return team.told("never heard")

    first, second = outcomes(2, work)
    assert isinstance(second, DataError)
    assert type(first) is GsegkitError
    assert first.message == "process 1: the disk of this machine is full"
    assert first.hint == "free some space"


def test_a_killed_process_ends_those_that_wait_and_stops_those_that_work():
    def work(team):
        if team.rank == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if team.rank == 0:
            team.wait()
        assert team.watch.stop.wait(20), "a loop would go on"
        raise InterruptedRunError("stopped")

    began = time.monotonic()
    waited, worked, killed = outcomes(3, work, lost_after=4)
    assert time.monotonic() - began < 30
    assert isinstance(killed, Ended)
    for error in (waited, worked):
        assert isinstance(error, LostProcessError)
        assert error.ranks == (2,)
        assert "process 2 on" in error.message
        assert "same command again" in error.hint


def test_a_process_that_hangs_is_lost_after_a_while(monkeypatch, capfd):
    monkeypatch.setattr("gsegkit.distributed.watch.GRACE", 1.0)

    def work(team):
        if team.rank == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        team.wait()

    first, _ = outcomes(2, work, seconds=8, lost_after=2)
    assert isinstance(first, Ended), "it waits in an operation, and is ended by force"
    assert "error: process 1 on" in capfd.readouterr().err


def test_a_stop_ends_all_processes_as_a_stop():
    def work(team):
        if team.rank == 1:
            raise InterruptedRunError("stopped", "run it again")
        team.wait()

    assert [type(error) for error in outcomes(2, work)] == [InterruptedRunError] * 2
