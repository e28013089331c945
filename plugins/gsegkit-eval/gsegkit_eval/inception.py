"""Generator evaluators `fid`, `kid` and `precision-recall`: torch-fidelity's numbers, with the user's Inception file.

torch-fidelity would download the weights, or execute what a file of them says. So the file's sha256 is checked, it is
read as data, and its tensors alone are handed over. Sources: Heusel et al. 2017 (FID), Binkowski et al. 2018 (KID),
Kynkaanniemi et al. 2019 (precision and recall; theirs are on VGG-16).
"""

from __future__ import annotations

import io
from abc import abstractmethod
from pathlib import Path
from typing import Any

import torch
from gsegkit_foreign import read_foreign
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import (
    KEY_METRIC_FID,
    fid_features_to_statistics,
    fid_statistics_to_metric,
)
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import ArtifactError, ConfigError, DataError
from gsegkit.images import to_pixels
from gsegkit.interfaces import Generator, GeneratorEvaluator
from gsegkit.seeds import isolated_rng
from gsegkit.storage import file_hash
from gsegkit.types import Report
from gsegkit_eval.config import INCEPTION_FILE, INCEPTION_SHA256, InceptionConfig, KidConfig, PrecisionRecallConfig
from gsegkit_eval.pictures import IMAGES, check_enough, generated, halves, photographed

FEATURES = "2048"  # torch-fidelity's name of the last pooled ones
BATCH = 32  # images that Inception sees at a time, at 299 x 299 px


class Inception(nn.Module):
    """torch-fidelity's Inception with the weights of a file; nothing is downloaded, nothing in the file executed.

    Args:
        weights: the file.
        sha256: that it must have.

    Raises:
        ConfigError: no file was named.
        ArtifactError: there is no such file, it has another sha256, or it holds another network.
    """

    def __init__(self, weights: str, sha256: str) -> None:
        super().__init__()
        if not weights:
            raise ConfigError(
                "FID, KID, precision and recall need the file of Inception's weights, and nothing is downloaded",
                f"give {INCEPTION_FILE} (torch-fidelity's releases have it) with -o eval.weights=FILE, or use --eval "
                "frechet, which needs none",
            )
        path = Path(weights).expanduser()
        if not path.is_file():
            raise ArtifactError(f"'{path}' is not a file", f"give {INCEPTION_FILE} with -o eval.weights=FILE")
        found = file_hash(path)
        if found != sha256:
            expected = "the published file" if sha256 == INCEPTION_SHA256 else "what eval.sha256 says"
            raise ArtifactError(
                f"'{path}' is not {expected}: its sha256 is {found}, not {sha256}",
                "download it again; a file of other weights is used with -o eval.sha256=HEX, and never called FID",
            )
        self.network = _network(path)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] float32 in [-1, 1] on any device, rounded to 8 bits -> [N, 2048] float32 on the CPU."""
        device = self.network.fc.weight.device
        return torch.cat([self.network(part)[0].cpu() for part in to_pixels(images.to(device)).split(BATCH)])


def _network(path: Path) -> Any:
    file = read_foreign(path)
    stored = io.BytesIO()
    torch.save(dict(file.tensors(file.root)), stored)  # the tensors alone: what torch-fidelity then loads is ours
    stored.seek(0)
    try:
        with isolated_rng(0):  # its first numbers do not matter
            return FeatureExtractorInceptionV3("inception", [FEATURES], feature_extractor_weights_path=stored)
    except RuntimeError as error:  # names and shapes do not fit
        reason = (str(error).splitlines() or [""])[-1].strip()
        raise ArtifactError(
            f"'{path}' does not hold the weights of Inception: {reason}", f"give {INCEPTION_FILE}"
        ) from None


class OnInception(GeneratorEvaluator):
    """Common ground: images, bare layers, and halves of the photographs, each beside the photographs."""

    config: InceptionConfig

    @abstractmethod
    def scores(self, made: Tensor, real: Tensor, ctx: RunContext) -> dict[str, float]:
        """Named scores of two sets of features, [N, 2048] and [M, 2048] float32 on the CPU."""

    @abstractmethod
    def meaning(self, name: str) -> str:
        """What the score `name` is, in words."""

    def evaluate(self, generator: Generator, images: UnlabelledImages, ctx: RunContext) -> Report:
        """See `GeneratorEvaluator.evaluate`.

        Raises:
            ConfigError: no file of weights was named.
            ArtifactError: it is not there, another one, or damaged.
            DataError: too few photographs.
        """
        check_enough(images, "this comparison")
        c = self.config
        network = Inception(c.weights, c.sha256).to(ctx.device)
        made = generated(generator, network, c.num_samples, ctx)
        real = photographed(generator, images, network, c.num_images, ctx)
        num_samples = len(made[IMAGES])
        sides = {"": (made.pop(IMAGES), real)}
        sides |= {f"_{layer}": (rows, real) for layer, rows in made.items()}
        sides["_halves"] = halves(real, ctx)
        published = c.sha256 == INCEPTION_SHA256
        metrics: dict[str, float | None] = {}
        definitions: dict[str, str] = {}
        for end, (one, other) in sides.items():
            for name, value in self.scores(one, other, ctx).items():
                key = f"{name}{end}" if published else f"{name}({c.sha256[:8]}){end}"
                metrics[key] = value
                definitions[key] = f"{self.meaning(name)}, of {_whose(end)}"
        metrics |= {"num_samples": num_samples, "num_images": len(real)}
        definitions |= {
            "num_samples": "generated images that were compared",
            "num_images": "photographs that were compared",
        }
        return Report(metrics=metrics, definitions=definitions, notes=self._notes(published, num_samples, len(real)))

    def _notes(self, published: bool, num_samples: int, num_images: int) -> tuple[str, ...]:
        counts = f"{num_samples} images and {num_images} photographs: compare numbers of equal counts and sizes only"
        if published:
            return (f"torch-fidelity with the published Inception (sha256 {INCEPTION_SHA256[:8]})", counts)
        other = (
            f"the weights are not the published Inception (sha256 {self.config.sha256[:8]}): no paper's number compares"
        )
        return (other, counts)


def _whose(end: str) -> str:
    if end == "_halves":
        return "two random halves of the photographs: what no generator can be asked to beat"
    return f"the bare layer '{end[1:]}' and the photographs" if end else "the images and the photographs"


class Fid(OnInception):
    """Frechet Inception distance."""

    def scores(self, made: Tensor, real: Tensor, ctx: RunContext) -> dict[str, float]:
        """See `OnInception.scores`."""
        statistics = [fid_features_to_statistics(rows) for rows in (made, real)]
        return {"fid": fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID]}

    def meaning(self, name: str) -> str:
        """See `OnInception.meaning`."""
        return "Frechet distance between Inception's last pooled features"


class Kid(OnInception):
    """Kernel Inception distance."""

    config: KidConfig

    def scores(self, made: Tensor, real: Tensor, ctx: RunContext) -> dict[str, float]:
        """See `OnInception.scores`."""
        size = min(self.config.subset_size, len(made), len(real))
        found = kid_features_to_metric(
            made, real, kid_subsets=self.config.subsets, kid_subset_size=size, rng_seed=ctx.seed % 2**32, verbose=False
        )
        return {"kid": found[KEY_METRIC_KID_MEAN], "kid_std": found[KEY_METRIC_KID_STD]}

    def meaning(self, name: str) -> str:
        """See `OnInception.meaning`."""
        what = "deviation over the subsets of the" if name == "kid_std" else "mean over random subsets of the"
        c = self.config
        return (
            f"{what} squared maximum mean discrepancy (cubic kernel) of Inception's features; {c.subsets} subsets of "
            f"{c.subset_size}, or of as many as there are; slightly below 0 is possible"
        )


class PrecisionRecall(OnInception):
    """Precision and recall of the manifolds of nearest neighbours."""

    config: PrecisionRecallConfig

    def scores(self, made: Tensor, real: Tensor, ctx: RunContext) -> dict[str, float]:
        """See `OnInception.scores`."""
        k = self.config.neighbours
        if min(len(made), len(real)) <= k:
            raise DataError(f"{min(len(made), len(real))} images have no {k} neighbours", "lower eval.neighbours")
        found = prc_features_to_metric(made, real, prc_neighborhood=k, save_cpu_ram=True, verbose=False)
        return {"precision": found[KEY_METRIC_PRECISION], "recall": found[KEY_METRIC_RECALL]}

    def meaning(self, name: str) -> str:
        """See `OnInception.meaning`."""
        k = self.config.neighbours
        inside = (
            "share of the first that lie among the second"
            if name == "precision"
            else "share of the second that lie among the first"
        )
        return f"{inside}: within the distance to the {k}th neighbour of one of them, in Inception's features"
