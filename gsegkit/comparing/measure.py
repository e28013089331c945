"""One method on all photographs: fitted, asked, timed, and kept so that it is not done again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import StrictFloat, StrictInt, StrictStr
from torch import Tensor

from gsegkit.comparing import criteria
from gsegkit.comparing.budget import Cost, line
from gsegkit.comparing.foreground import foreground_classes
from gsegkit.comparing.material import Material
from gsegkit.comparing.methods import Method
from gsegkit.context import RunContext
from gsegkit.errors import ArtifactError, ContractError
from gsegkit.interfaces import Segmenter
from gsegkit.parts import save_part
from gsegkit.plugins import Registry
from gsegkit.records.files import Record
from gsegkit.refining import Predictor, automatic
from gsegkit.storage import atomic_write_json, read_json
from gsegkit.tensors import load_tree, save_tree

ALONE = "alone"
STABLE = 8  # photographs that stability is looked at on
SAMPLE = (4, 8)  # photographs that the time of a fit is measured on
ASKED = 3  # photographs that the time of an answer is measured on
OUTCOME_FILE = "outcome.json"
LABELS_FILE = "labels.safetensors"


class Kept(Record):
    """What is stored of a finished method beside its answers."""

    key: StrictStr
    classes: tuple[StrictStr, ...]
    fit_seconds: StrictFloat
    seconds: dict[StrictStr, StrictFloat]
    stability: dict[StrictStr, StrictFloat]
    labels_consumed: StrictStr
    labels_used: StrictInt


@dataclass(frozen=True)
class Outcome:
    """A method's answers.

    Attributes:
        method: whose.
        kept: classes, times, labels.
        labels: step ("alone", and the refiners that act) -> [H, W] uint8 class indices of each photograph.
    """

    method: Method
    kept: Kept
    labels: dict[str, list[Tensor]]

    @property
    def inside(self) -> Tensor:
        """Which of its classes are foreground, [K] bool, without any label."""
        return foreground_classes(self.kept.classes, self.labels[ALONE])

    def foregrounds(self, step: str) -> list[Tensor]:
        """[H, W] bool of each photograph, without any label."""
        inside = self.inside
        return [inside[labels.long()] for labels in self.labels[step]]


class _Answered:
    """A segmenter whose answer to a photograph is known, for the refiners."""

    def __init__(self, classes: tuple[str, ...], probs: Tensor) -> None:
        self.classes, self._probs = classes, probs

    def probs(self, pixels: Tensor) -> Tensor:
        return self._probs


class Asked:
    """A fitted segmenter, alone and with each refiner that acts on photographs."""

    def __init__(self, segmenter: Segmenter, registry: Registry) -> None:
        self.segmenter, self.registry = segmenter, registry
        self.steps = (ALONE, *automatic(registry))

    def answer(self, pixels: Tensor) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Class indices [H, W] uint8 of a photograph by step, and the seconds until each was there."""
        began = time.perf_counter()
        probs = self.segmenter.probs(pixels[None].to(self.segmenter.device))
        expected = (1, len(self.segmenter.classes), *pixels.shape[1:])
        if tuple(probs.shape) != expected:
            raise ContractError(
                f"its probabilities are {list(probs.shape)}, not {list(expected)}", "see Segmenter.probs"
            )
        found, seconds = {ALONE: _labels(probs)}, {ALONE: time.perf_counter() - began}
        for name in self.steps[1:]:
            started = time.perf_counter()
            refined = Predictor(_Answered(self.segmenter.classes, probs), name, self.registry)(pixels[None])
            found[name], seconds[name] = _labels(refined), seconds[ALONE] + time.perf_counter() - started
        return found, seconds

    def foregrounds(self, inside: Tensor) -> criteria.Foregrounder:
        """All steps as a function from a photograph to foregrounds; `inside`: which classes are, [K] bool."""
        return lambda pixels: {step: inside[labels.long()] for step, labels in self.answer(pixels)[0].items()}


def _labels(probs: Tensor) -> Tensor:
    return probs[0].argmax(dim=0).to(torch.uint8).cpu()


def measured(method: Method, material: Material, registry: Registry, ctx: RunContext, key: str) -> Outcome:
    """Fit, ask and time a method, and keep it in the context's folder.

    Raises:
        InterruptedRunError: stopped.
        GsegkitError: the method cannot deal with these photographs.
    """
    began = time.perf_counter()
    segmenter = method.fitted(material, registry, ctx)
    fit_seconds = time.perf_counter() - began
    asked = Asked(segmenter, registry)
    labels: dict[str, list[Tensor]] = {step: [] for step in asked.steps}
    total = dict.fromkeys(asked.steps, 0.0)
    for pixels in ctx.track(material.pixels, "photographs"):
        found, seconds = asked.answer(pixels)
        for step in asked.steps:
            labels[step].append(found[step])
            total[step] += seconds[step]
    used = {*segmenter.labels_used, *method.labels_used}
    kept = Kept(
        key=key, classes=tuple(segmenter.classes), fit_seconds=fit_seconds,
        seconds={step: spent / len(material) for step, spent in total.items()},
        stability=stability(asked, labels, material.pixels, ctx), labels_consumed=segmenter.labels_consumed,
        labels_used=len(used),
    )  # fmt: skip
    if method.run is None:
        save_part(segmenter, ctx.folder, "segmenter", method.name.partition("@")[0])
    tree = {step: {str(i): one for i, one in enumerate(each)} for step, each in labels.items()}
    save_tree(ctx.folder / LABELS_FILE, tree)
    atomic_write_json(ctx.folder / OUTCOME_FILE, kept.model_dump(mode="json"))
    return Outcome(method, kept, labels)


def stability(
    asked: Asked, labels: dict[str, list[Tensor]], photographs: Sequence[Tensor], ctx: RunContext
) -> dict[str, float]:
    """How stable answers are on at most `STABLE` photographs: step -> mean.

    Args:
        asked: the method.
        labels: step -> its answers.
        photographs: [3, H, W] uint8 each.
        ctx: progress and stop.
    """
    inside, count = foreground_classes(asked.segmenter.classes, labels[ALONE]), len(photographs)
    rows = [i * count // STABLE for i in range(STABLE)] if count > STABLE else list(range(count))
    each = []
    for i in ctx.track(rows, "stability"):
        masks = {step: inside[labels[step][i].long()] for step in asked.steps}
        each.append(criteria.stability(asked.foregrounds(inside), photographs[i], masks))
    return {step: sum(one[step] for one in each) / len(each) for step in asked.steps}


def kept_outcome(method: Method, folder: Path, key: str, material: Material) -> Outcome | None:
    """What an earlier call kept of the same method on the same photographs; None when there is nothing whole."""
    try:
        kept = Kept.parse(read_json(folder / OUTCOME_FILE), folder / OUTCOME_FILE)
        tree: Any = load_tree(folder / LABELS_FILE) if kept.key == key else {}
    except ArtifactError:
        return None
    if kept.key != key or not all(step in tree for step in kept.seconds):
        return None
    labels = {step: _fitting(tree[step], material.pixels, len(kept.classes)) for step in kept.seconds}
    if any(each is None for each in labels.values()):
        return None
    return Outcome(method, kept, {step: each for step, each in labels.items() if each is not None})


def _fitting(stored: Any, pixels: Sequence[Tensor], count: int) -> list[Tensor] | None:
    """Stored class indices in order; None where they are not those of the photographs."""
    if not isinstance(stored, dict) or set(stored) != {str(i) for i in range(len(pixels))}:
        return None
    found = [stored[str(i)] for i in range(len(pixels))]
    whole = all(
        isinstance(one, Tensor) and one.dtype == torch.uint8 and one.shape == p.shape[1:] and int(one.max()) < count
        for one, p in zip(found, pixels, strict=True)
    )
    return found if whole else None


def cost_of(method: Method, material: Material, registry: Registry, ctx: RunContext, seed: int) -> Cost:
    """Seconds that a method takes, from a few photographs: two fits, and some answers.

    Raises:
        InterruptedRunError: stopped, or its time is over.
        GsegkitError: the method cannot deal with these photographs.
    """
    points = []
    segmenter = None
    learns = method.run is None and method.learns_from in ("photographs", "labels")
    for count in SAMPLE if learns else SAMPLE[:1]:
        part = material.drawn(count, seed)
        began = time.perf_counter()
        segmenter = method.fitted(part, registry, ctx)
        learned = len(part.few) if method.learns_from == "labels" else len(part)
        points.append((learned, time.perf_counter() - began))
        ctx.check_stop()
    assert segmenter is not None
    fit = line(points[0], points[-1]) if learns else Cost(points[0][1], 0.0)
    if learns and method.learns_from == "labels":
        fit = Cost(fit.of(len(material.few)), 0.0)
    asked, seconds = Asked(segmenter, registry), []
    for pixels in material.drawn(ASKED, seed).pixels:
        began = time.perf_counter()
        asked.answer(pixels)
        seconds.append(time.perf_counter() - began)
        ctx.check_stop()
    answer = sorted(seconds)[len(seconds) // 2]
    looks = 3 * min(STABLE, len(material))
    return Cost(fit.fixed + answer * looks, fit.each + answer)
