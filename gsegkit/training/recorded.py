"""Training steps as CUDA graphs: recorded once, then replayed, so that small networks do not wait for Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from gsegkit.context import RunContext

WARM_UP = 3  # steps before one is recorded: cuDNN chooses its algorithms, optimisers make their state

Tensors = dict[str, Tensor]
Body = Callable[[Tensors], Tensors]


class RecordedSteps:
    """Runs the body of a training step; from its fourth call on, as a CUDA graph.

    A body takes named tensors and returns some. It must launch the same kernels whenever its inputs have the same names
    and shapes: it draws nothing at random, reads no number from the GPU, uploads nothing, and its optimisers are made
    with `capturable=True`. Anything else that a step does stays outside.

    Each set of names and shapes has a recording of its own; all share their memory. Where recording fails, a warning
    says so and the steps go on one kernel at a time.

    Args:
        ctx: for the warning.
        device: the GPU of all inputs.
    """

    def __init__(self, ctx: RunContext, device: torch.device) -> None:
        self.ctx, self.device = ctx, device
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()
        self.recordings: dict[object, _Recording] = {}
        self.calls: dict[object, int] = {}
        self.failed = False

    def __call__(self, name: str, body: Body, inputs: Mapping[str, Tensor]) -> Tensors:
        """What `body(inputs)` returns, in tensors of the caller's own.

        Args:
            name: of the body; one name always means the same body.
            body: see above.
            inputs: on the GPU.
        """
        with torch.cuda.device(self.device):  # which need not be the first one
            return self._run(name, body, inputs)

    def _run(self, name: str, body: Body, inputs: Mapping[str, Tensor]) -> Tensors:
        key = name, tuple((part, tuple(tensor.shape)) for part, tensor in inputs.items())
        calls = self.calls[key] = self.calls.get(key, 0) + 1
        if not self.failed and calls > WARM_UP:
            if key not in self.recordings:
                self._record(key, body, inputs)
            if not self.failed:
                return self.recordings[key].replay(inputs)
        # On the recording's stream: autograd ties what it accumulates to a stream.
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            outputs = body(dict(inputs))
        torch.cuda.current_stream().wait_stream(self.stream)
        return outputs

    def _record(self, key: object, body: Body, inputs: Mapping[str, Tensor]) -> None:
        try:
            self.recordings[key] = _Recording(body, inputs, self.pool, self.stream)
        except RuntimeError as error:
            self.failed = True
            first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
            self.ctx.warn(f"the step cannot be recorded as a CUDA graph ({first_line}): slower, otherwise the same")


class _Recording:
    """One CUDA graph with the places of its inputs and outputs."""

    def __init__(self, body: Body, inputs: Mapping[str, Tensor], pool: Any, stream: torch.cuda.Stream) -> None:
        self.inputs = {name: tensor.detach().clone() for name, tensor in inputs.items()}
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, pool=pool, stream=stream):
            self.outputs = body(self.inputs)

    def replay(self, inputs: Mapping[str, Tensor]) -> Tensors:
        for name, place in self.inputs.items():
            place.copy_(inputs[name])
        self.graph.replay()
        return {name: tensor.clone() for name, tensor in self.outputs.items()}
