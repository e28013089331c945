"""The five interfaces that plugins implement, and the two small ones beside them.

ABCs, not Protocols: an incomplete class is refused when it is constructed, and the missing methods are named.
Every component is constructed from exactly one argument, its config object.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsegkit.checkpoints import Checkpoint, CheckpointFile
from gsegkit.config import Config
from gsegkit.distributed.team import ALONE, Team
from gsegkit.errors import CapabilityError, ConfigError
from gsegkit.images import enlarge_logits, fit_pixels, to_images, without_pads
from gsegkit.reading.scaling import DEFAULT_SCALING
from gsegkit.refining import Predictor, Refine, check_photographs
from gsegkit.seeds import integers
from gsegkit.tensors import state_hash
from gsegkit.types import GeneratedBatch, GeneratorInfo, LabelledBatch, MaskBatch, Report

if TYPE_CHECKING:
    from gsegkit.context import RunContext
    from gsegkit.dataset import LabelledDataset, UnlabelledImages

ATTRIBUTION_FILE = "ATTRIBUTION.txt"  # beside photographs that ship with a plugin

#: Replaces one activation: [N, C, h, w] float32 -> the same shape.
Edit = Callable[[Tensor], Tensor]
#: [N, 3, H, W] uint8 -> class probabilities [N, K, H, W] float32 at the same size.
Predict = Callable[[Tensor], Tensor]


class ModulePart(nn.Module, ABC):
    """Common ground of the parts that hold tensors.

    A part's stored state is its `state_dict()` (safetensors) and its `facts()` (JSON). Loading constructs the part
    from its config, calls `restore(facts)` so that it can build what only fit() knew (class names, layer sizes),
    then loads the tensors strictly.

    Attributes:
        scaling: how photographs of more than 8 bits became those that it learned from, see `gsegkit.reading.scaling`;
            who trains it sets it, and it is stored with the part.
        divided: `fit` may be called in all processes of `ctx.team` at once and divides its work among them. Where it
            is false, the first process fits alone and the others load what it stored. Afterwards only the first
            process needs to hold the result.
        hashed_too: what beside its tensors decides what it makes; part of `gsegkit.tensors.state_hash`.
    """

    scaling: str = DEFAULT_SCALING
    divided: ClassVar[bool] = False
    hashed_too: str = ""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    @property
    def device(self) -> torch.device:
        """Where the part's first tensor lives; the CPU when it has none."""
        for tensor in (*self.parameters(), *self.buffers()):
            return tensor.device
        return torch.device("cpu")

    def facts(self) -> dict[str, Any]:
        """JSON-ready values that `state_dict()` cannot hold."""
        return {}

    def restore(self, facts: Mapping[str, Any]) -> None:
        """Take back what `facts()` gave; afterwards `load_state_dict` must fit."""


class Generator(ModulePart):
    """An image generator whose i-th sample is a function of the i-th seed alone.

    Attributes:
        info: what is known without running it.
        notes: assumptions made when its weights were read from a file of other software.
    """

    info: GeneratorInfo
    notes: tuple[str, ...] = ()

    @abstractmethod
    def latents(self, seeds: Tensor) -> Tensor:
        """Latents in the edit space (W for StyleGAN, z for BigGAN): [N, *latent_shape] float32 on `self.device`.

        Row i depends on `seeds[i]` ([N] int64) only; draw with `gsegkit.seeds.normals`.
        """

    def labels(self, seeds: Tensor) -> Tensor | None:
        """Class labels, [N] int64 on `self.device`, uniform by default; None for an unconditional generator."""
        if self.info.num_classes == 0:
            return None
        return integers(seeds, self.info.num_classes).to(self.device)

    @abstractmethod
    def synthesize(
        self,
        latents: Tensor,
        labels: Tensor | None = None,
        *,
        features: tuple[str, ...] = (),
        edits: Mapping[str, Edit] | None = None,
    ) -> GeneratedBatch:
        """Make images. Deterministic (fixed noise); differentiable in `latents` with capability `latent-grad`.

        Args:
            latents: [N, *latent_shape] float32.
            labels: [N] int64, needed when `info.num_classes` > 0.
            features: names from `info.features` to return beside the images.
            edits: name from `info.edit_points` -> function that replaces that activation.

        Raises:
            ContractError: an unknown feature name.
            CapabilityError: an unknown edit point.
        """

    def sample(self, seeds: Tensor, *, features: tuple[str, ...] = ()) -> GeneratedBatch:
        """Images of the given identities, without gradients; [N] int64 in, a batch with its seeds out."""
        with torch.no_grad():
            batch = self.synthesize(self.latents(seeds), self.labels(seeds), features=features)
        return replace(batch, seeds=seeds)

    def truth(self, batch: GeneratedBatch) -> Tensor:
        """Exact masks of a batch, [N, H, W] uint8; only with capability `truth`."""
        raise CapabilityError(
            f"generator {type(self).__name__} does not provide the true masks of its images",
            "give a folder of annotated images with --data",
        )


class TrainableGenerator(Generator):
    """A generator that can be trained on an image folder."""

    @abstractmethod
    def fit(self, images: UnlabelledImages, ctx: RunContext, *, segmenter: Segmenter | None = None) -> None:
        """Train on `images`. `segmenter` is that of the round before, for methods that alternate."""


@dataclass(frozen=True)
class Level:
    """What an extractor says of one of its numbers of clusters; every field is in class order.

    Attributes:
        ids: of the clusters, >= 0. A cluster keeps its id on every level on which it exists.
        shares: of the pixels that the clusters were found on, sum 1.
        facts: JSON-ready numbers of this level (lowest separability ...).
    """

    ids: tuple[int, ...]
    shares: tuple[float, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)


class MaskExtractor(ModulePart):
    """Reads class probabilities out of a generator's samples.

    An extractor whose classes are unnamed clusters may keep several levels: clusterings of different fineness, of
    which one, the present cut, is in use. It sets `levels` and overrides `level` and `cut`; then its clusters can be
    named at any level, and matched to true classes.

    Attributes:
        classes: names of the K classes, known after fit(); with levels `cluster-ID` for each id of the present cut.
        levels: every number of clusters that `cut` accepts, rising, known after fit(); () = the classes are final.
    """

    classes: tuple[str, ...]
    levels: tuple[int, ...] = ()

    def features(self, info: GeneratorInfo) -> tuple[str, ...]:
        """Feature maps that extract() wants in its batch; decided from shapes, without running the generator."""
        return ()

    @abstractmethod
    def fit(self, generator: Generator, ctx: RunContext, *, images: UnlabelledImages | None = None) -> None:
        """Learn from the generator's samples (seeds of purpose "fit") and, for some methods, real images."""

    @abstractmethod
    def extract(self, batch: GeneratedBatch, generator: Generator) -> MaskBatch:
        """Probabilities at generator resolution, and scores per sample; gradients only where the batch has them."""

    def masks(self, batch: GeneratedBatch, generator: Generator, size: tuple[int, int]) -> Tensor:
        """Most probable classes at another size, for looking at: [N, *size] int64, by nearest neighbour.

        Override it where computing them at that size is cheaper.
        """
        classes = self.extract(batch, generator).probs.argmax(dim=1)
        return F.interpolate(classes[:, None].float(), size=size, mode="nearest-exact")[:, 0].long()

    def level(self, k: int) -> Level:
        """What is known of the level of `k` clusters.

        Raises:
            ConfigError: there is no such level.
        """
        raise self.no_level(k)

    def cut(self, k: int) -> None:
        """Use another level: `classes` and what `extract` gives are those of its `k` clusters.

        Raises:
            ConfigError: there is no such level.
        """
        raise self.no_level(k)

    def no_level(self, k: int) -> ConfigError:
        """The error that says why there is no level of `k` clusters."""
        if not self.levels:
            return ConfigError(
                f"extractor {type(self).__name__} has no levels to cut", "omit the cut: its clusters are its classes"
            )
        known = f"{self.levels[0]} to {self.levels[-1]}" if len(self.levels) > 1 else str(self.levels[0])
        return ConfigError(f"there is no cut into {k} clusters", f"possible: {known}")

    def fingerprint(self) -> str:
        """16 hex digits for what the fit found. The present cut does not change it; another fit has another one."""
        found: list[object] = [[k, list(self.level(k).ids)] for k in self.levels]
        found = found or list(self.classes)
        return hashlib.sha256(json.dumps([state_hash(self), found]).encode()).hexdigest()[:16]


class PlainPart:
    """Common ground of the parts that hold no tensors."""

    def __init__(self, config: Config) -> None:
        self.config = config


class Refiner(PlainPart, ABC):
    """Cleans a batch of pairs: may drop rows, change masks and probs, add scores. Stateless; never touches pixels."""

    @abstractmethod
    def refine(self, batch: LabelledBatch) -> LabelledBatch:
        """Return the batch that remains; what happens to a row depends on that row alone."""


class Segmenter(ModulePart):
    """An ordinary segmentation network, trained on pairs, used on photographs of any size.

    Attributes:
        classes: names of the K classes, known after fit().
        train_size: (height, width) of the images it was trained on, known after fit().
        fit_rule: how photographs are brought to that size ("squash", "crop", "pad"), or "native": not at all.
        learns_from: "pairs" (of one size, many), "labels" (annotated photographs of any size, a few), "photographs"
            or "nothing" (see `PhotographSegmenter`).
        labels_used: names of annotated images that it learned from, or that named its classes; they are not scored.
        exportable: whether `logits` is its answer; False = `probs` alone answers, and no network can be exported.
    """

    classes: tuple[str, ...]
    train_size: tuple[int, int]
    fit_rule: str = "squash"
    learns_from: str = "pairs"
    labels_used: tuple[str, ...] = ()
    exportable: bool = True

    @property
    def labels_consumed(self) -> str:
        """Whose labels it owes its answer to, those of a pretrained network included, in words; "" = not said."""
        return ""

    @abstractmethod
    def fit(self, dataset: LabelledDataset, ctx: RunContext, *, val: LabelledDataset | None = None) -> None:
        """Train on (pixels, mask) pairs; 255 in a mask is ignored. `val` None = split off a part of `dataset`."""

    @abstractmethod
    def logits(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] float32 in [-1, 1], any H and W (pads inside) -> [N, K, H, W] float32; differentiable."""

    @property
    def batch_rule(self) -> str:
        """How photographs of several sizes become one batch: `fit_rule`, or "squash" where that is "native"."""
        return "squash" if self.fit_rule == "native" else self.fit_rule

    def probs(self, pixels: Tensor, refine: Refine = ()) -> Tensor:
        """Class probabilities of photographs: [N, 3, H, W] uint8 -> [N, K, H, W] float32 at the same size.

        The photographs are fitted to the training size by `fit_rule`; the logits are brought back bilinearly, then
        softmax is applied. `refine`: refiners that then act, such as "colours", by name or made with options.
        """
        if refine:
            return Predictor(self, refine)(pixels)
        logits = self.fitted_logits(pixels)
        return enlarge_logits(logits, (int(pixels.shape[-2]), int(pixels.shape[-1]))).softmax(dim=1)

    @property
    def one_view(self) -> bool:
        """Whether `probs` is `fitted_logits`, enlarged; who overrides `probs` may say when it is."""
        return type(self).probs is Segmenter.probs and self.fit_rule != "native"

    def fitted_logits(self, pixels: Tensor) -> Tensor:
        """Logits of photographs at the size that the network sees: [N, 3, H, W] uint8 -> [N, K, h, w] float32."""
        check_photographs(pixels)
        training = self.training
        self.eval()
        with torch.no_grad():
            logits = self.logits(to_images(fit_pixels(pixels.to(self.device), self.train_size, self.fit_rule)))
        self.train(training)
        return without_pads(logits, (int(pixels.shape[-2]), int(pixels.shape[-1])), self.train_size, self.fit_rule)

    def predict(self, pixels: Tensor, refine: Refine = ()) -> Tensor:
        """Masks of photographs: [N, 3, H, W] uint8 -> [N, H, W] uint8 classes, 255 where a refiner of `refine` says."""
        return Predictor(self, refine).label(pixels).masks


class PhotographSegmenter(Segmenter):
    """A segmenter that needs neither pairs nor labels: it learns from photographs, or from nothing.

    Its component provides `without-pairs`: `gsegkit fit` makes it. One that learns from nothing has its classes from
    the start, and `fit_photographs` reads no photograph.
    """

    learns_from = "photographs"

    @abstractmethod
    def fit_photographs(self, images: UnlabelledImages, ctx: RunContext) -> None:
        """Learn from photographs, which may differ in size; DataError when there is nothing to learn from them."""

    def name_clusters(self, targets: Sequence[int], classes: Sequence[str]) -> None:
        """Clusters without names become classes, many to one: cluster i is part of class `targets[i]`."""
        raise CapabilityError(f"the classes of {type(self).__name__} have names already", "omit the labels")

    def fit(self, dataset: LabelledDataset, ctx: RunContext, *, val: LabelledDataset | None = None) -> None:
        """Refused."""
        raise CapabilityError(f"{type(self).__name__} does not learn from pairs", "give photographs to gsegkit fit")


class Evaluator(PlainPart, ABC):
    """Scores a predictor against ground truth.

    Attributes:
        divided: `evaluate` may be called in all processes of `ctx.team` at once, divides the images among them, and
            returns the same in all. Where it is false, the first process evaluates alone.
    """

    divided: ClassVar[bool] = False

    @abstractmethod
    def evaluate(self, predict: Predict, dataset: LabelledDataset, ctx: RunContext) -> Report:
        """Run `predict` (probabilities, see `Predict`) over a labelled data set; images may differ in size."""


class GeneratorEvaluator(PlainPart, ABC):
    """Compares what a generator paints with photographs; needs no labels."""

    @abstractmethod
    def evaluate(self, generator: Generator, images: UnlabelledImages, ctx: RunContext) -> Report:
        """Compare samples and, where the generator has them, their layers with `images`, fitted to its size.

        Raises:
            DataError: too few photographs for the comparison.
        """


class KMeans(PlainPart, ABC):
    """A k-means backend.

    Attributes:
        divided: `fit` may be called in all processes of `team` at once, divides its work, and returns the same in all.
        team: set by whoever calls `fit` so.
    """

    divided: ClassVar[bool] = False
    team: Team = ALONE

    @abstractmethod
    def fit(self, points: Tensor, k: int, seed: int) -> tuple[Tensor, Tensor]:
        """Cluster [M, D] float32 points into `k` clusters.

        Returns:
            centres [k, D] float32 and assignments [M] int64, on the points' device.

        Raises:
            DataError: fewer points than clusters, or non-finite points.
        """

    @property
    @abstractmethod
    def used_device(self) -> str:
        """The device that the last fit() really ran on, e.g. `"cpu"` or `"cuda:0"`."""


class DatasetReader(PlainPart, ABC):
    """Opens a folder as data."""

    @abstractmethod
    def images(self, folder: Path) -> UnlabelledImages:
        """The folder's images, whatever else is in it. DataError when there is none."""

    @abstractmethod
    def labelled(self, folder: Path) -> LabelledDataset:
        """The folder's images with their masks. DataError when masks are missing or do not fit."""

    def published_count(self) -> int | None:
        """How many images the chosen split of a published data set has; None = not known, or no such set."""
        return None


class Weights(PlainPart, ABC):
    """Generator weights that ship with a plugin.

    Attributes:
        samples: name of the `Samples` that results are shown on; "" = none.
        names: name of the class names in the folder `names`, see `gsegkit.classes.shipped`; "" = none.
    """

    samples: str = ""
    names: str = ""

    @abstractmethod
    def folder(self) -> Path:
        """A folder with state.safetensors, component.json and card.json."""


class Samples(PlainPart, ABC):
    """Photographs that ship with a plugin, to try a segmenter on."""

    @abstractmethod
    def folder(self) -> Path:
        """A folder of photographs with ATTRIBUTION.txt: whose they are, their licence, what was changed."""


class CheckpointReader(PlainPart, ABC):
    """Reads weights that other software wrote, as data: nothing that a file holds is executed.

    Attributes:
        component: name of the component that its files are for.
        kind: of that component.
        looks_for: the files that it recognises, in words, for the message when no reader recognises a file.
    """

    component: str
    kind: str = "generator"
    looks_for: str

    @abstractmethod
    def sniff(self, file: CheckpointFile) -> bool:
        """Whether a file is one of its own. Quick: the reading is done by `read`.

        Raises:
            ArtifactError: damaged or hostile, or known and not supported; the message says what it is.
        """

    @abstractmethod
    def read(self, file: CheckpointFile) -> Checkpoint:
        """Read a file that `sniff` accepted; ArtifactError when something in it does not fit."""
