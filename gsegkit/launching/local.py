"""The launcher `local`: several processes of this machine."""

from __future__ import annotations

import importlib
import os
import threading

from gsegkit.distributed.launched import Launched
from gsegkit.errors import ConfigError
from gsegkit.launching.config import LocalConfig
from gsegkit.launching.launcher import Launcher, Request, Say
from gsegkit.launching.process import Process, environment, free_port, together

MAX_WORKERS = 1024  # of one machine


class Local(Launcher):
    """Starts the processes itself, as torchrun would."""

    config: LocalConfig

    def launch(self, request: Request, say: Say, stop: threading.Event) -> int:
        """See `Launcher.launch`."""
        workers = request.workers or gpus_here(request.device) or 1
        if workers > MAX_WORKERS:
            raise ConfigError(f"{workers} processes are too many for one machine", f"at most {MAX_WORKERS}")
        job, port = request.whole(workers), free_port()
        places = [Launched(i, workers, i, "127.0.0.1", port) if workers > 1 else None for i in range(workers)]
        started: list[Process] = []
        try:
            for place in places:
                started.append(Process(job, environment(place, self.config.threads, os.environ)))
        except OSError as error:
            for process in started:
                process.kill()
            raise ConfigError(f"a process could not be started: {error.strerror}", "take fewer --workers") from None
        return together(started, stop)


def gpus_here(device: str) -> int:
    """How many GPUs of this machine a run may take; 0 where it computes elsewhere. May import torch."""
    if device not in ("auto", "cuda"):
        return 0
    return int(importlib.import_module("torch").cuda.device_count())
