"""The launcher `slurm`: a run as jobs of a cluster.

What is handed in, for `--workers 8` and one round:

1. a job of 8 processes, which find each other on the first machine of the job: the extractor is fitted;
2. an array of 8 jobs of one process, each of which makes every eighth shard of the pairs. They know nothing of each
   other, so each starts when there is room for it, and one that is pre-empted holds up none of the others;
3. a job of 8 processes again, which makes what is missing of the pairs, trains, and writes the report.

All are handed in at once, each waits in the queue for those before it, and the command only watches. It can be left
with Ctrl-C, and the same command finds the jobs again: `jobs/jobs.json` in the run folder names them.
"""

from __future__ import annotations

import secrets
import shlex
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from gsegkit.errors import StorageError
from gsegkit.launching import Launcher, Request
from gsegkit.launching.launcher import Say
from gsegkit.rundir import JOBS_FOLDER
from gsegkit.storage import atomic_write, storage_errors
from gsegkit_slurm.clusters import LocalCluster, SlurmCluster
from gsegkit_slurm.config import SlurmConfig
from gsegkit_slurm.layout import Layout, lay_out
from gsegkit_slurm.queue import earlier, hand_in, still_there, watch
from gsegkit_slurm.scripts import check_path, check_slurm, dependency, script
from gsegkit_slurm.steps import Step, steps_of
from gsegkit_slurm.watching import Waiting

SHOWN_JOBS = 3  # of an array, in a dry run


class Slurm(Launcher):
    """Jobs of SLURM through submitit; see the top of this module."""

    config: SlurmConfig

    def launch(self, request: Request, say: Say, stop: threading.Event) -> int:
        """See `Launcher.launch`. A stop leaves the jobs of a cluster in the queue, and ends those of this machine."""
        layout = lay_out(self.config, request.workers)
        steps, home = steps_of(request, layout), request.out / JOBS_FOLDER
        check_path(home)
        if self.config.dry_run:
            return self._write_scripts(layout, steps, home, say)
        if self.config.cluster == "local":
            return self._one_after_another(layout, steps, home, say, stop)
        check_slurm()
        jobs = earlier(home)
        if jobs is not None:
            cluster = SlurmCluster(self.config, layout, home / jobs.folder)
            if still_there(cluster, jobs, request.arguments, steps):
                say("the jobs of an earlier call go on")
                return watch(cluster, steps, jobs, home, say, stop, from_end=True)
        cluster = SlurmCluster(self.config, layout, _new_folder(home))
        jobs = hand_in(cluster, steps, home, request.arguments, say)
        return watch(cluster, steps, jobs, home, say, stop, from_end=False)

    def _write_scripts(self, layout: Layout, steps: Sequence[Step], home: Path, say: Say) -> int:
        """The dry run."""
        folder = _new_folder(home)
        ids = [[f"JOB-{step.number}"] for step in steps]  # sbatch will say what they are
        for step in steps:
            before = dependency(steps[: step.number], ids[: step.number])
            text, path = script(self.config, layout, step, before, folder), folder / f"step-{step.number}.sh"
            atomic_write(path, text.encode())
            say(f"# ---- {step.name}: {path}")
            for line in text.splitlines():
                say(line)
            for job in step.jobs[:SHOWN_JOBS]:
                say(f"# executes: {shlex.join(job.command)}")
            if len(step.jobs) > SHOWN_JOBS:
                say(f"# and {len(step.jobs) - SHOWN_JOBS} more")
        say("nothing was handed in; omit launcher.dry_run to do so")
        return 0

    def _one_after_another(
        self, layout: Layout, steps: Sequence[Step], home: Path, say: Say, stop: threading.Event
    ) -> int:
        """On this machine, which has no queue."""
        cluster = LocalCluster(self.config, layout, _new_folder(home))
        for step in steps:
            ids = cluster.submit(step)
            try:
                status = Waiting(cluster, step, ids, say).wait(stop)
            finally:
                cluster.end(ids)  # whoever is left when the user stops at once
            if status:
                return status
        return 0


def _new_folder(home: Path) -> Path:
    """A folder of a name that was never there, which only its user may enter: submitit loads pickles from it.

    Raises:
        StorageError: it cannot be made.
    """
    if home.is_symlink():  # what it points to is not ours to fill
        raise StorageError(f"'{home}' is a symbolic link", "remove the link, then run again")
    folder = home / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"
    with storage_errors(folder):
        home.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
    return folder
