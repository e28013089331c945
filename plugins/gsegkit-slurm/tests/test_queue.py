"""What SLURM gets, and what the command makes of its answers."""

import json
import os
import pickle
import shlex
import subprocess

import pytest
from gsegkit_slurm import launcher
from gsegkit_slurm.task import Task

from gsegkit.errors import ConfigError, InterruptedRunError, LostProcessError


def all_well(slurm):
    """A cluster where each step goes well as soon as it is looked at."""

    def then(line):
        if line.startswith("fit extractor: job"):
            slurm.ended(0)
        elif line.startswith("make dataset: ") and "handed in" not in line:
            slurm.ended(1, 0)
            slurm.ended(1, 1)
        elif line.startswith("run: job"):
            slurm.ended(2)

    return then


def test_a_run_is_an_array_between_two_jobs_that_follow_each_other(slurm):
    slurm.queue("100|RUNNING|None", "101_0|PENDING|Dependency", "101_1|PENDING|Dependency", "102|PENDING|Dependency")
    options = {"partition": "gpu", "gpus_per_node": 2, "cpus_per_task": 3, "mem": "8G", "setup": ["module load cuda"],
               "sbatch": {"reservation": "a b", "exclusive": True, "contiguous": False}}  # fmt: skip
    assert slurm.launch(all_well(slurm), **options) == 0
    fit, pairs, rest = (slurm.script(job) for job in (100, 101, 102))
    for text in (fit, pairs, rest):
        assert {"#SBATCH --partition=gpu", "#SBATCH --requeue", "#SBATCH --signal=USR2@120", "#SBATCH --exclusive",
                "#SBATCH --reservation='a b'", "#SBATCH --mem=8G", "module load cuda"} <= set(text.splitlines())  # fmt: skip
        assert "contiguous" not in text
        assert "srun --unbuffered" in text
        assert "--cpus-per-task=3 " in text.rpartition("srun ")[2]
    assert {"#SBATCH --ntasks-per-node=2", "#SBATCH --gpus-per-node=2"} <= set(fit.splitlines())
    assert "--dependency" not in fit
    assert {"#SBATCH --array=0-1%2", "#SBATCH --ntasks-per-node=1", "#SBATCH --gpus-per-node=1",
            "#SBATCH --dependency=afterok:100"} <= set(pairs.splitlines())  # fmt: skip
    assert "#SBATCH --dependency=afterok:100,afterany:101" in rest.splitlines()
    assert "fit extractor: job 100 running" in slurm.heard
    assert "make dataset: 2 pending (Dependency)" in slurm.heard
    assert not (slurm.out / "jobs/jobs.json").exists(), "no job is left"
    assert slurm.cancelled == []


def test_a_job_holds_plain_values_and_its_folder_is_its_users(slurm):
    slurm.launch(all_well(slurm), threads=2)
    assert slurm.folder.stat().st_mode & 0o777 == 0o700
    pickles = sorted(slurm.folder.glob("*_submitted.pkl"))
    assert [path.name for path in pickles] == [f"{job}_submitted.pkl" for job in ("100", "101_0", "101_1", "102")]
    submission = pickle.loads(pickles[2].read_bytes())
    assert submission.function == Task(
        ["run", "--gen", "toy", "--piece", "dataset:1/2"], str(slurm.out.parent), 1, 2,
        str(slurm.folder / "step-1-job-1.json"), 105.0, waits=True,
    )  # fmt: skip
    assert pickles[2].stat().st_size < 1000, "by reference: no code travels in it"


def test_a_dry_run_shows_what_would_be_handed_in(slurm, monkeypatch):
    slurm.launch(all_well(slurm), partition="gpu", workers=4)
    handed = [slurm.script(job) for job in (100, 101, 102)]
    folder = slurm.folder.name
    monkeypatch.setenv("PATH", "/nowhere")  # no SLURM
    assert slurm.launch(partition="gpu", workers=4, dry_run=True) == 0
    shown = [(slurm.folder / f"step-{number}.sh").read_text() for number in range(3)]
    for job, number in ((100, 0), (101, 1)):
        shown = [text.replace(f"JOB-{number}", str(job)) for text in shown]
    assert [text.replace(slurm.folder.name, folder) for text in shown] == handed
    assert "#SBATCH --array=0-3%4" in slurm.heard
    assert any(line.endswith("--piece dataset:2/4") for line in slurm.heard)
    assert "# and 1 more" in slurm.heard
    assert "nothing was handed in" in slurm.heard[-1]


def test_words_of_the_command_reach_no_shell(slurm, tmp_path):
    """They travel in the job's pickle; in the script stand only folders, quoted."""
    slurm.out = tmp_path / "a folder; touch pwned" / "run $(touch pwned)"
    words = ("run", "--gen", "toy'; touch pwned; '", "--out", str(slurm.out))
    assert slurm.launch(dry_run=True, arguments=words) == 0
    text = (slurm.folder / "step-0.sh").read_text()
    assert "toy" not in text
    (command,) = [line for line in text.splitlines() if line.startswith("srun ")]
    assert str(slurm.folder) in shlex.split(command)
    done = subprocess.run(["bash", slurm.folder / "step-0.sh"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 9, "srun of the fake SLURM"
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize("name", ["a\n#SBATCH --uid=0", "it's", 'a "b"', "%j", "a\\b"])
def test_a_folder_that_a_script_cannot_hold_is_refused(slurm, tmp_path, name):
    slurm.out = tmp_path / name
    error = slurm.refused(dry_run=True)
    assert "a script of sbatch cannot hold" in error.message
    assert "\n" not in error.message
    assert not slurm.out.exists()


# ---- bad days --------------------------------------------------------------------------------------------------------


def test_without_slurm_a_sentence_says_what_to_do(slurm, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    error = slurm.refused()
    assert error.message == "this machine has no sbatch, so no job can be handed in to SLURM"
    assert "login node" in error.hint
    assert "launcher.dry_run=true" in error.hint
    assert not slurm.out.exists()


def test_a_job_that_is_not_taken_takes_those_before_it_back(slurm):
    (slurm.here / "refused").write_text("101")
    error = slurm.refused()
    assert isinstance(error, ConfigError)
    assert error.message.endswith("sbatch: error: Batch job submission failed: Invalid partition name specified")
    assert slurm.cancelled == ["100"]
    assert not (slurm.out / "jobs/jobs.json").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_told(slurm):
    slurm.out.mkdir()
    slurm.out.chmod(0o500)
    assert "cannot write" in slurm.refused().message


def test_a_file_in_the_folders_place_is_told(slurm):
    slurm.out.write_text("not a folder")
    assert "cannot write" in slurm.refused().message


def test_a_link_in_the_folders_place_is_not_followed(slurm, tmp_path):
    slurm.out.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (slurm.out / "jobs").symlink_to(tmp_path / "elsewhere")
    assert "is a symbolic link" in slurm.refused(dry_run=True).message
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_job_that_fails_ends_what_waits_for_it(slurm):
    slurm.queue("100|RUNNING|None")

    def then(line):
        if line == "fit extractor: job 100 running":
            (slurm.folder / "100_0_log.err").write_text("error: no such thing\x1b[2J\ntry: another")
            slurm.ended(0, status=2)

    assert slurm.launch(then) == 2
    assert "error: no such thing\\x1b[2J" in slurm.heard
    assert "try: another" in slurm.heard
    assert slurm.heard[-1] == f"fit extractor: job 100 ended with 2; its log: {slurm.folder / '100_0_log.err'}"
    assert slurm.cancelled == ["101", "102"]
    assert not (slurm.out / "jobs/jobs.json").exists()


def test_a_share_that_fails_is_told_and_left_to_the_job_after_it(slurm):
    slurm.queue("100|RUNNING|None", "101_1|RUNNING|None", "102|RUNNING|None")
    well = all_well(slurm)

    def then(line):
        well(line)
        if line == "make dataset: 1 ended, 1 running":
            (slurm.folder / "101_1_0_log.err").write_text("".join(f"line {n}\n" for n in range(200_000)))
            slurm.ended(1, 1, status=137)

    assert slurm.launch(then) == 0
    at = next(i for i, line in enumerate(slurm.heard) if "ended with 137" in line)
    assert slurm.heard[at].startswith("make dataset 2 of 2: job 101_1 ended with 137 (killed, perhaps for its memory")
    assert "; what it left undone is done by the job that follows; its log: " in slurm.heard[at]
    assert slurm.heard[at - 10 : at] == [f"  line {n}" for n in range(199_990, 200_000)]


def test_a_job_that_goes_on_later_is_told(slurm):
    slurm.queue(
        "100|PENDING|Priority", "101_0|PENDING|Dependency", "101_1|PENDING|Dependency", "102|PENDING|Dependency"
    )
    told = {
        "fit extractor: job 100 pending (Priority)": "100|RUNNING|None",
        "fit extractor: job 100 running": "100|PENDING|BeginTime",
        "fit extractor: job 100 back in the queue (BeginTime)": "",
    }

    def then(line):
        if line in told:
            slurm.queue(told[line])
            if not told[line]:
                slurm.ended(0, status=2)

    assert slurm.launch(then) == 2
    assert set(told) <= set(slurm.heard)


def test_a_job_that_ends_without_a_word_is_lost(slurm):
    slurm.queue("100|RUNNING|None")

    def then(line):
        if line == "fit extractor: job 100 running":
            (slurm.folder / "100_1_log.err").write_text("Killed\n")
            slurm.queue()

    error = slurm.refused(then)
    assert isinstance(error, LostProcessError)
    assert "job 100 ended without a word (SLURM says OUT_OF_MEMORY); its log: " in error.message
    assert "  Killed" in slurm.heard
    assert slurm.cancelled == ["100", "101", "102"], "it may live yet"


def test_a_cluster_that_does_not_answer_loses_no_job(slurm):
    slurm.queue("100|RUNNING|None")
    looks = []

    def deaf(line):
        if line == "fit extractor: job 100 running":
            (slurm.here / "deaf").touch()

    class Stop:
        def is_set(self):
            return False

        def wait(self, seconds):  # a second, in which squeue fails
            looks.append(seconds)
            if len(looks) == 60:
                (slurm.here / "deaf").unlink()
                slurm.ended(0)
                slurm.queue("101_0|RUNNING|None", "101_1|RUNNING|None", "102|RUNNING|None")

    slurm.stop = Stop()
    well = all_well(slurm)
    assert slurm.launch(lambda line: (deaf(line), "fit" in line or well(line))) == 0
    assert len(looks) >= 60


# ---- left alone and found again ------------------------------------------------------------------------------------


def left(slurm):
    """The user goes while the first job works."""
    slurm.queue("100|RUNNING|None", "101_0|PENDING|Dependency", "101_1|PENDING|Dependency", "102|PENDING|Dependency")
    error = slurm.refused(lambda line: slurm.stop.set() if line == "fit extractor: job 100 running" else None)
    slurm.stop.clear()
    return error


def test_a_stop_leaves_the_jobs_and_the_same_command_finds_them(slurm):
    error = left(slurm)
    assert isinstance(error, InterruptedRunError)
    assert error.exit_code == 130
    assert error.message == "the jobs 100, 101, 102 go on"
    assert error.hint.startswith("squeue --jobs=100,101,102 shows them, scancel 100 101 102 ends them")
    assert slurm.cancelled == []
    assert json.loads((slurm.out / "jobs/jobs.json").read_text())["ids"] == [["100"], ["101_0", "101_1"], ["102"]]
    (slurm.folder / "100_0_log.err").write_text("told before\n")

    def then(line):
        if line == "fit extractor: job 100 running":
            with (slurm.folder / "100_0_log.err").open("a") as file:
                file.write("new\n")
        all_well(slurm)(line)

    slurm.heard.clear()
    assert slurm.launch(then) == 0
    assert slurm.heard[0] == "the jobs of an earlier call go on"
    assert "new" in slurm.heard
    assert "told before" not in slurm.heard
    assert not (slurm.here / "103.sh").exists(), "nothing was handed in twice"


def test_a_run_that_was_finished_meanwhile_is_not_handed_in_again(slurm):
    left(slurm)
    slurm.queue()
    for step, index in ((0, 0), (1, 0), (1, 1), (2, 0)):
        slurm.ended(step, index)
    assert slurm.launch() == 0
    assert not (slurm.here / "103.sh").exists()


def test_jobs_that_failed_meanwhile_are_handed_in_again(slurm):
    left(slurm)
    slurm.queue()
    slurm.ended(0, status=2)
    assert slurm.launch(all_well(slurm)) == 0
    assert (slurm.here / "105.sh").exists()


def test_another_command_waits_for_the_jobs_of_the_first(slurm):
    left(slurm)
    error = slurm.refused(arguments=("run", "--gen", "other"))
    assert error.message == "jobs of another command still work in this run folder: 100 101 102"
    assert error.hint == "wait, or scancel 100 101 102"
    (slurm.here / "deaf").touch()
    assert "squeue does not answer" in slurm.refused().message


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        '{"arguments": [], "folder": "../../../etc", "ids": [["1"]]}',
        '{"arguments": [], "folder": "a", "ids": [["1 --uid=0"]]}',
    ],
)
def test_a_damaged_record_names_no_jobs(slurm, text):
    (slurm.out / "jobs").mkdir(parents=True)
    (slurm.out / "jobs/jobs.json").write_text(text)
    assert slurm.launch(all_well(slurm)) == 0
    assert (slurm.here / "102.sh").exists()


def test_two_calls_never_share_a_folder(slurm, monkeypatch):
    monkeypatch.setattr(launcher.time, "strftime", lambda form: "20260101-000000")
    for _ in range(2):
        slurm.launch(dry_run=True)
    assert len(list((slurm.out / "jobs").iterdir())) == 2
