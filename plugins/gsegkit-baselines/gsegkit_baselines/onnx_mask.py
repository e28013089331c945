"""onnx-mask: the user's own network, as an ONNX file.

The file is read as a graph and stored with the segmenter. Files that name other files, and operators that hide code or
files, are refused before the runtime sees a byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import ArtifactError, CapabilityError, ConfigError
from gsegkit.images import resize_pixels
from gsegkit.interfaces import PhotographSegmenter
from gsegkit.records.text import shown
from gsegkit.refining import Predictor, Refine, check_photographs
from gsegkit_baselines.base import FOREGROUND, Baseline
from gsegkit_baselines.config import OnnxMaskConfig

MOST_BYTES = 2**31 - 1  # of an ONNX file
MOST_PIXELS = 2048 * 2048  # that a network is run on
DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
FOREIGN = ("EPContext", "PyOp")  # operators that hold code of another runtime, or name files
SLACK = 1e-3  # beyond 0 .. 1, of rounding


class OnnxMask(Baseline, PhotographSegmenter):
    """Masks of a network that somebody else trained, from photographs squashed to its size."""

    config: OnnxMaskConfig
    learns_from = "nothing"
    exportable = False
    content: Tensor

    def __init__(self, config: OnnxMaskConfig) -> None:
        super().__init__(config)
        self.register_buffer("content", torch.zeros(0, dtype=torch.uint8))
        self._session: Any = None

    @property
    def labels_consumed(self) -> str:
        """What the network learned from is not known here."""
        return "unknown: those that the ONNX file was trained with"

    def fit_photographs(self, images: UnlabelledImages, ctx: RunContext) -> None:
        """Read the file and run it once on a grey photograph; no photograph is read.

        Raises:
            ConfigError: no file is named, or it has no such input or output.
            ArtifactError: it is missing, damaged, names other files, or does not give masks.
        """
        if self.config.file is None:
            raise ConfigError("no ONNX file is named", "-o seg.file=FILE.onnx")
        data = _read(Path(self.config.file))
        check_graph(data, self.config.file)
        self.content = torch.from_numpy(np.frombuffer(data, np.uint8).copy())
        self._session = None
        self.train_size, self.fit_rule = self._size(), "squash"
        channels = self._run(torch.full((1, 3, *self.train_size), 128, dtype=torch.uint8)).shape[1]
        self.classes = self._names(channels)

    def probs(self, pixels: Tensor, refine: Refine = ()) -> Tensor:
        """See `Segmenter.probs`: one photograph at a time."""
        if refine:
            return Predictor(self, refine)(pixels)
        check_photographs(pixels)
        size = (int(pixels.shape[2]), int(pixels.shape[3]))
        found = []
        for one in pixels.cpu():
            answer = self._run(resize_pixels(one[None], self.train_size))
            probs = F.interpolate(self._probs(answer), size, mode="bilinear", align_corners=False)
            found.append(probs / probs.sum(dim=1, keepdim=True))
        return torch.cat(found).to(self.device)

    def logits(self, images: Tensor) -> Tensor:
        """Refused."""
        raise CapabilityError("onnx-mask runs a file of another runtime and has no logits", "use probs(pixels)")

    def facts(self) -> dict[str, Any]:
        """See `ModulePart.facts`."""
        known = super().facts()
        return {**known, "bytes": len(self.content)} if known else {}

    def restore(self, facts: Mapping[str, Any]) -> None:
        """See `ModulePart.restore`; the file that was read is not looked for."""
        super().restore(facts)
        if facts:
            self.content = torch.zeros(int(facts["bytes"]), dtype=torch.uint8)

    # ---- inside --------------------------------------------------------------------------------------------------

    @property
    def session(self) -> Any:
        """The runtime with the stored graph, made once."""
        if self._session is None:
            if not len(self.content):
                raise ArtifactError(
                    "onnx-mask has read no file", "gsegkit fit onnx-mask -o seg.file=FILE.onnx --out FOLDER"
                )
            data = self.content.cpu().numpy().tobytes()
            check_graph(data, "the stored ONNX file")
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            options.intra_op_num_threads = torch.get_num_threads()
            try:
                self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            except Exception as error:  # the runtime raises classes of its own
                raise ArtifactError(f"the ONNX file cannot be run: {_line(error)}", "export it again") from None
        return self._session

    def _input(self) -> Any:
        inputs = self.session.get_inputs()
        wanted = self.config.input
        found = [one for one in inputs if wanted in (None, one.name)]
        if len(found) != 1 or len(inputs) != 1:
            names = ", ".join(shown(one.name) for one in inputs)
            raise ConfigError(f"the ONNX file has the inputs {names}: exactly one is needed", "-o seg.input=NAME")
        shape = list(found[0].shape)
        if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3) or found[0].type != "tensor(float)":
            raise ArtifactError(
                f"the ONNX file takes {found[0].type} {shown(shape)}, not photographs [N, 3, H, W] of floats",
                "export it so that it takes them",
            )
        return found[0]

    def _size(self) -> tuple[int, int]:
        """(height, width) that photographs are squashed to."""
        own = [side if isinstance(side, int) and side > 0 else None for side in self._input().shape[2:]]
        size = self.config.size or (None if None in own else (int(str(own[0])), int(str(own[1]))))
        if size is None:
            raise ConfigError("the ONNX file takes photographs of any size", "say which: -o seg.size=[320,320]")
        if any(mine not in (None, given) for mine, given in zip(own, size, strict=True)):
            raise ConfigError(
                f"the ONNX file takes {own[0]} x {own[1]} only, not {size[0]} x {size[1]}", "omit seg.size"
            )
        if min(size) < 1 or size[0] * size[1] > MOST_PIXELS:
            raise ConfigError(f"no network is run on {size[0]} x {size[1]} pixels", "give a smaller seg.size")
        return size

    def _run(self, pixels: Tensor) -> Tensor:
        """[1, 3, h, w] uint8 -> what the file gives, [1, C, h', w'] float32."""
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (self.config.mean, self.config.std))
        given = ((pixels.float() / 255 - mean) / std).numpy()
        outputs = [one.name for one in self.session.get_outputs()]
        wanted = self.config.output or outputs[0]
        if wanted not in outputs:
            names = ", ".join(map(shown, outputs))
            raise ConfigError(f"the ONNX file has no output {shown(wanted)}", f"-o seg.output=NAME, of {names}")
        try:
            answer: NDArray[Any] = np.asarray(self.session.run([wanted], {self._input().name: given})[0])
        except Exception as error:
            raise ArtifactError(
                f"the ONNX file failed on a photograph: {_line(error)}", "check size and input"
            ) from None
        shape = list(answer.shape)
        answer = answer[None] if answer.ndim == 2 else answer
        answer = answer[:, None] if answer.ndim == 3 else answer
        if answer.ndim != 4 or answer.shape[0] != 1 or 0 in answer.shape or answer.shape[1] > 255:
            raise ArtifactError(
                f"output {shown(wanted)} has the shape {shape}: no masks [1, C, H, W]", "-o seg.output=NAME"
            )
        found = torch.from_numpy(answer.astype(np.float32))
        if not bool(torch.isfinite(found).all()):
            raise ArtifactError(f"output {shown(wanted)} holds NaN or infinity", "check mean and std")
        return found

    def _probs(self, answer: Tensor) -> Tensor:
        """[1, C, h, w] -> probabilities of the classes [1, K, h, w]."""
        if self.config.values == "logits":
            answer = answer.sigmoid() if answer.shape[1] == 1 else answer.softmax(dim=1)
        elif float(answer.min()) < -SLACK or float(answer.max()) > 1 + SLACK:
            raise ArtifactError(
                f"the file's values, {float(answer.min()):.3g} to {float(answer.max()):.3g}, are no probabilities",
                "-o seg.values=logits",
            )
        answer = answer.clamp(0, 1)
        if answer.shape[1] == 1:
            limit = self.config.threshold  # becomes one half
            inside = torch.where(answer > limit, 0.5 + (answer - limit) / (2 * (1 - limit)), answer / (2 * limit))
            return torch.cat([1 - inside, inside], dim=1)
        return (answer + 1e-6) / (answer + 1e-6).sum(dim=1, keepdim=True)

    def _names(self, channels: int) -> tuple[str, ...]:
        count = max(2, channels)
        usual = FOREGROUND if channels == 1 else ("background", *(f"class-{i}" for i in range(1, count)))
        names = self.config.classes or usual
        if len(names) != count:
            raise ConfigError(f"{len(names)} classes are named, but the ONNX file gives {count}", "name each one")
        return tuple(names)


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise ArtifactError(f"'{path}' is not a file", "give the ONNX file with -o seg.file=FILE.onnx")
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ArtifactError(f"'{path}' has more than 2 GB", "ONNX files hold at most that")
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"'{path}' cannot be read: {error.strerror}", "check its permissions") from None


def check_graph(data: bytes, source: str) -> None:
    """Refuse what is no plain graph.

    Raises:
        ArtifactError: not ONNX, tensors in other files, or operators of unknown origin.
    """
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf raises classes of its own
        raise ArtifactError(f"'{source}' is not an ONNX file: {_line(error)}", "export the network again") from None
    if not model.graph.node:
        raise ArtifactError(f"'{source}' is not an ONNX file: its graph is empty", "export the network again")
    for graph in _graphs(model):
        tensors = [*getattr(graph, "initializer", ()), *_constants(graph)]
        tensors += [
            part for sparse in getattr(graph, "sparse_initializer", ()) for part in (sparse.values, sparse.indices)
        ]
        if any(tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data for tensor in tensors):
            raise ArtifactError(
                f"'{source}' keeps tensors in other files, which are not read", "save it with its weights inside"
            )
        for node in graph.node:
            own = {(function.domain, function.name) for function in model.functions}
            if node.op_type in FOREIGN or (node.domain not in DOMAINS and (node.domain, node.op_type) not in own):
                name = shown(f"{node.domain}.{node.op_type}")
                raise ArtifactError(
                    f"'{source}' uses the operator {name}, which is not plain ONNX", "export it without"
                )


def _graphs(model: Any) -> Iterator[Any]:
    """The graph, its functions, and all graphs inside them."""
    waiting = [model.graph, *model.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting += [*([attribute.g] if attribute.g.node else []), *attribute.graphs]


def _constants(graph: Any) -> Iterator[Any]:
    """Tensors in attributes of nodes."""
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)


def _line(error: Exception) -> str:
    return shown(" ".join(str(error).split())[:200] or type(error).__name__)
