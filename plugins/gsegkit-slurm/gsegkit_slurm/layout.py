"""How many machines, processes and jobs a run takes, from what the user asked for."""

from __future__ import annotations

from dataclasses import dataclass

from gsegkit.errors import ConfigError
from gsegkit_slurm.config import SlurmConfig


@dataclass(frozen=True)
class Layout:
    """Where the processes of a run go.

    Attributes:
        nodes: machines of a job of several processes.
        tasks_per_node: processes on each.
        shares: jobs of one process that make the pairs; 0 = the job of several processes makes them.
    """

    nodes: int
    tasks_per_node: int
    shares: int

    @property
    def workers(self) -> int:
        """Processes of a job of several."""
        return self.nodes * self.tasks_per_node


def lay_out(config: SlurmConfig, workers: int | None) -> Layout:
    """Distribute the processes evenly.

    Args:
        config: the launcher's options.
        workers: processes that the user wants; None = one for each GPU that the options name, or 1.

    Raises:
        ConfigError: the numbers do not fit each other.
    """
    gpus = config.gpus_per_node
    workers = workers or (config.nodes or 1) * max(1, gpus)
    nodes = config.nodes or (-(-workers // gpus) if gpus else 1)
    if config.cluster == "local" and nodes > 1:
        raise ConfigError(f"launcher.cluster=local is one machine, and {nodes} are asked for", "omit launcher.nodes")
    if workers % nodes:
        fitting = max(1, workers // nodes) * nodes
        raise ConfigError(
            f"{workers} processes cannot be divided evenly among {nodes} machines", f"take --workers {fitting}"
        )
    if gpus and workers // nodes > gpus:
        raise ConfigError(
            f"{workers // nodes} processes on each machine are more than its {gpus} GPUs",
            "take fewer --workers, or more -o launcher.nodes",
        )
    shares = config.array if config.array is not None else workers if workers > 1 else 0
    return Layout(nodes, workers // nodes, shares)
