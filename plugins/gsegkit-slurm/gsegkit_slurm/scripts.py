"""The scripts that sbatch gets, and whether it could get them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from submitit import SlurmExecutor

from gsegkit.errors import ConfigError, MissingDependencyError
from gsegkit.records.text import shown
from gsegkit_slurm.config import SlurmConfig
from gsegkit_slurm.layout import Layout
from gsegkit_slurm.steps import Step

PATH = re.compile(r"[^\x00-\x1f\x7f%'\"\\]+")
COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol")
JOB_NAME = 40  # characters


def parameters(config: SlurmConfig, layout: Layout, step: Step, after: str | None) -> dict[str, Any]:
    """The parameters of a step's script, as submitit's `SlurmExecutor` takes them; `after`: see `dependency`."""
    several = step.jobs[0].processes > 1
    gpus = min(config.gpus_per_node, layout.tasks_per_node if several else 1)
    more = {name: value for name, value in config.sbatch.items() if value is not False}
    return {
        "job_name": f"gsegkit {step.name}"[:JOB_NAME],
        "partition": config.partition,
        "account": config.account,
        "qos": config.qos,
        "constraint": config.constraint,
        "time": -(-config.seconds // 60),
        "signal_delay_s": config.signal_delay,
        "nodes": layout.nodes if several else 1,
        "ntasks_per_node": layout.tasks_per_node if several else 1,
        "cpus_per_task": config.cpus_per_task,
        "gpus_per_node": gpus or None,
        "mem": config.mem,
        "dependency": after,
        "array_parallelism": len(step.jobs),  # as many at a time as the cluster lets
        "setup": list(config.setup) or None,
        # since SLURM 22.05 srun does not know of sbatch's --cpus-per-task
        "srun_args": [f"--cpus-per-task={config.cpus_per_task}"] if config.cpus_per_task is not None else [],
        "wckey": None,
        "additional_parameters": {"requeue": True, "kill-on-invalid-dep": "yes", **more},
    }


def dependency(before: Sequence[Step], ids: Sequence[Sequence[str]]) -> str | None:
    """What a job waits for: the jobs before it, which must have gone well; what an array left undone it does itself."""
    words = (
        f"{'afterany' if step.array else 'afterok'}:{of_step[0].partition('_')[0]}"
        for step, of_step in zip(before, ids, strict=True)
    )
    return ",".join(words) or None


def script(config: SlurmConfig, layout: Layout, step: Step, after: str | None, folder: Path) -> str:
    """What `SlurmCluster.submit` hands to sbatch; needs no SLURM."""
    executor = _Unsubmitted(folder, max_num_timeout=config.requeues)
    executor.update_parameters(**parameters(config, layout, step, after))
    if step.array:
        executor.parameters["map_count"] = len(step.jobs)
    return executor._make_submission_file_text(executor._submitit_command_str, "")


class _Unsubmitted(SlurmExecutor):
    """Writes scripts where SLURM is not installed too."""

    @classmethod
    def affinity(cls) -> int:
        return 1


def check_slurm() -> None:
    """MissingDependencyError when this machine cannot hand in jobs."""
    missing = [name for name in COMMANDS if shutil.which(name) is None]
    if missing:
        raise MissingDependencyError(
            f"this machine has no {missing[0]}, so no job can be handed in to SLURM",
            "run the command on a login node of the cluster; -o launcher.dry_run=true shows the scripts here, "
            "-o launcher.cluster=local takes processes of this machine",
        )


def check_path(folder: Path) -> None:
    """ConfigError for a folder whose name sbatch would not take as it is."""
    if not PATH.fullmatch(str(folder)):
        raise ConfigError(
            f"the path {shown(str(folder))} holds a character that a script of sbatch cannot hold",
            "choose an --out without quotes, backslashes, % and line breaks",
        )
