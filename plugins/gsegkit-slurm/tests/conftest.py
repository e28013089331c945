"""A SLURM that takes jobs, tells states, and executes nothing."""

import json
import stat
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from gsegkit_slurm import watching
from gsegkit_slurm.config import SlurmConfig
from gsegkit_slurm.launcher import Slurm

from gsegkit.errors import GsegkitError
from gsegkit.launching import Request

COMMANDS = {
    "sbatch": """
n=$(cat "$HERE/next")
if [ "$n" = "$(cat "$HERE/refused")" ]; then
  echo "sbatch: error: invalid partition specified: gpu" >&2
  echo "sbatch: error: Batch job submission failed: Invalid partition name specified" >&2
  exit 1
fi
echo $((n + 1)) > "$HERE/next"
cp "$1" "$HERE/$n.sh"
echo "Submitted batch job $n"
""",
    "squeue": 'if [ -e "$HERE/deaf" ]; then exit 1; fi; cat "$HERE/queue"',
    "scancel": 'echo "$@" >> "$HERE/cancelled"',
    "sacct": "echo OUT_OF_MEMORY",
    "srun": "exit 9",
    "scontrol": "exit 9",
}


@dataclass
class FakeSlurm:
    """What its commands got, and what they answer.

    Attributes:
        here: `queue` is what squeue prints; `N.sh` the script of job N; `cancelled` the arguments of scancel.
        out: a run folder.
        heard: lines that the launcher said.
        stop: the user's.
    """

    here: Path
    out: Path
    heard: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def queue(self, *lines):
        (self.here / "queue").write_text("".join(f"{line}\n" for line in lines))

    @property
    def cancelled(self):
        path = self.here / "cancelled"
        return path.read_text().split() if path.exists() else []

    def script(self, job):
        return (self.here / f"{job}.sh").read_text()

    @property
    def folder(self):
        """The newest folder of jobs."""
        return max(
            (path for path in (self.out / "jobs").iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime_ns
        )

    def ended(self, step, index=0, status=0):
        """What a job leaves."""
        (self.folder / f"step-{step}-job-{index}.json").write_text(json.dumps({"status": status}))

    def launch(self, then=None, arguments=("run", "--gen", "toy"), workers=2, **options):
        """The status that a run ends with; `then` gets every line, and acts as a cluster would."""
        launcher = Slurm(SlurmConfig(**options))

        def say(line):
            self.heard.append(line)
            if then is not None:
                then(line)

        return launcher.launch(Request(arguments, self.out, self.out.parent, workers), say, self.stop)

    def refused(self, *args, **options):
        with pytest.raises(GsegkitError) as caught:
            self.launch(*args, **options)
        return caught.value


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    here = tmp_path / "slurm"
    here.mkdir()
    for name, text in COMMANDS.items():
        path = here / name
        path.write_text(f'#!/bin/sh\nHERE="{here}"\n{text}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    (here / "next").write_text("100")
    (here / "refused").write_text("")
    (here / "queue").write_text("")
    monkeypatch.setenv("PATH", f"{here}:/usr/bin:/bin")
    monkeypatch.setattr(watching, "POLL", {True: 0.01, False: 0.05})
    monkeypatch.setattr(watching, "VISIBLE_AFTER", {True: 0.2, False: 1.0})
    return FakeSlurm(here, tmp_path / "run")
