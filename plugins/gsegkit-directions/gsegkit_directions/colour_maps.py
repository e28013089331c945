"""Extractor `colour-maps`: how well two colour maps imitate a latent direction, and masks by which map fits.

Voynov, Morozov, Babenko, Object Segmentation Without Labels with Large-Scale Generative Models, ICML 2021 (first called
Big GANs Are Watching You), and its released script that scores directions.

A direction that changes object and background each in its own way can be imitated by two colour maps: every pixel's
new colour is an affine function of its old one, by the better of two functions. How badly that works ranks directions
without a person, and which of the two maps fits a pixel better is a mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import ArtifactError, ConfigError, DataError
from gsegkit.images import histogram_peaks
from gsegkit.interfaces import Generator, MaskExtractor
from gsegkit.seeds import child_seed, isolated_rng
from gsegkit.taps import frozen
from gsegkit.tensors import load_tree, save_tree
from gsegkit.types import GeneratedBatch, MaskBatch
from gsegkit_directions.candidates import Candidate, candidates
from gsegkit_directions.config import ColourMapsConfig
from gsegkit_directions.figures import SHOWN, mask_rows
from gsegkit_directions.latents import SPREAD_SAMPLES, EditSpace, check_shape, measure_latents, spread_of
from gsegkit_directions.losses import code_prior, luma

CLASSES = ("background", "foreground")
ROUNDS = 12  # of assigning pixels and solving; the assignment has settled by then
RIDGE = 1e-3  # pull towards the identity, as a share of the pixels; decides where a map sees one colour only
ADAM_BATCH = 4  # images a step in the released script
ADAM_LR = 5e-3
ADAM_SPREAD = 0.01  # its maps start as the identity plus this much of torch's default initialisation
UNSEEN = 1e-4  # mean squared error that nobody sees: 0.01 on the scale [-1, 1]
FILE_KEY = "direction"


class MapFit(NamedTuple):
    """Two colour maps fitted to pairs of images, and how well maps explain the change.

    Attributes:
        maps: [2, 3, 4] float32: matrix and offset; 0 is the background's, 1 the foreground's.
        change: mean squared difference of the images.
        one: what is left of it under the best single map.
        two: what is left of it under the two.
    """

    maps: Tensor
    change: float
    one: float
    two: float

    @property
    def split(self) -> float:
        """What the second map removes, as a multiple of what the two leave.

        A low residual alone is also that of a direction that does nothing, or that lightens the whole image. High
        where two ways of changing explain nearly all of a change that one does not.
        """
        return max(0.0, self.one - self.two) / (self.two + UNSEEN)


class ColourMaps(MaskExtractor):
    """The best of many candidate directions, its two colour maps, and masks by which map fits.

    Attributes:
        direction: [*latent_shape] float32, of norm 1.
        maps: [2, 3, 4] float32, background's and foreground's.
        ranking: the best candidates with their numbers, best first.
    """

    config: ColourMapsConfig
    direction: Tensor
    maps: Tensor

    def __init__(self, config: ColourMapsConfig) -> None:
        super().__init__(config)
        self.classes = CLASSES
        self.space = EditSpace((0,), 0.0)
        self.variance = 1.0
        self.chosen = ""
        self.ranking: list[dict[str, Any]] = []
        self.register_buffer("direction", torch.zeros(0))
        self.register_buffer("maps", torch.zeros(2, 3, 4))

    # ---- fitting -------------------------------------------------------------------------------------------------

    def fit(self, generator: Generator, ctx: RunContext, *, images: UnlabelledImages | None = None) -> None:
        """Rank the candidates, then fit the best one's maps to more images; real images are not used.

        Raises:
            ConfigError: the direction's file does not fit the generator.
            DataError: broken latents, or a direction that changes nothing.
        """
        with frozen(generator):
            latents = measure_latents(generator, ctx)
            self.space = EditSpace(
                generator.info.latent_shape, spread_of(latents), len(generator.info.latent_shape) > 1
            )
            if self.config.direction == "auto":
                self.ranking = rank(generator, self._candidates(latents, ctx), self.space, self.config, ctx)[:10]
                best = self.ranking[0]
                direction = torch.tensor(best["direction"], device=ctx.device)
                self.chosen = str(best["name"])
            else:
                direction = read_direction(Path(self.config.direction), self.space.shape).to(ctx.device)
                self.chosen = "given"
            self.direction = direction
            self._fit_maps(generator, ctx)
            self._draw(generator, ctx)

    @torch.no_grad()
    def _draw(self, generator: Generator, ctx: RunContext) -> None:
        batch = generator.sample(ctx.seeds("preview", SHOWN))
        masks = self.extract(batch, generator).probs.argmax(dim=1)
        caption = f"Rows: original; shifted along {self.chosen}; the mask, where the second colour map fits better."
        ctx.figure("colour-maps", mask_rows(batch.images, self.shifted(batch, generator), masks), caption, SHOWN)

    def _candidates(self, latents: Tensor, ctx: RunContext) -> list[Candidate]:
        config = self.config
        numbers = {
            "num_random": config.num_random,
            "num_coordinates": config.num_coordinates,
            "num_pca": config.num_pca,
        }
        return candidates(latents, self.space, **numbers, seed=child_seed(ctx.seed, "candidates"))

    def _fit_maps(self, generator: Generator, ctx: RunContext) -> None:
        pairs = [
            (batch.images, self.shifted(batch, generator))
            for batch in _samples(generator, self.config.num_fit_images, ctx)
        ]
        found = fit_maps(torch.cat([a for a, _ in pairs]), torch.cat([b for _, b in pairs]), self.config, ctx.seed)
        if found.change <= UNSEEN:
            raise DataError(
                f"the direction '{self.chosen}' barely changes the images (mean squared change {found.change:.1e})",
                "raise extractor.mask_shift, or let extractor.direction=auto choose",
            )
        self.maps = found.maps
        self.variance = max(found.two, 1e-6)
        ctx.info(
            f"colour-maps: {self.chosen}, two maps leave {found.two / found.change:.0%} of the change, "
            f"one leaves {found.one / found.change:.0%}"
        )

    # ---- masks ---------------------------------------------------------------------------------------------------

    def shifted(self, batch: GeneratedBatch, generator: Generator) -> Tensor:
        """The images moved along the direction, [N, 3, H, W] float32 in [-1, 1]."""
        if self.direction.numel() == 0:
            raise ArtifactError("the extractor 'colour-maps' was not fitted", "fit() it, or load a fitted one")
        check_shape(batch.latents, self.space.shape)
        return shift(
            generator, batch, self.direction, self.config.mask_shift * self.space.length(self.config.shift_unit)
        )

    @torch.no_grad()
    def extract(self, batch: GeneratedBatch, generator: Generator) -> MaskBatch:
        """Probability that a pixel's colour changed by the foreground's map.

        Scores: `coverage`, `contrast` (mean absolute change of luma), `histogram_peaks` (of the shifted image), and
        `residual` (mean squared error of the better map).
        """
        shifted = self.shifted(batch, generator)
        images = batch.images.clamp(-1, 1)
        errors = map_errors(self.maps, images, shifted)  # [N,2,H,W]
        side = self.config.window
        smooth = F.avg_pool2d(F.pad(errors, [side // 2] * 4, mode="replicate"), side, stride=1)
        # two normal distributions of the same variance: the posterior is a sigmoid of the errors' difference
        foreground = torch.sigmoid((smooth[:, 0] - smooth[:, 1]) * 3 / (2 * self.variance))
        scores = {
            "coverage": (foreground > 0.5).float().mean(dim=(1, 2)),
            "contrast": (luma(shifted) - luma(images)).abs().mean(dim=(1, 2, 3)),
            "histogram_peaks": histogram_peaks(shifted),
            "residual": errors.amin(dim=1).mean(dim=(1, 2)),
        }
        return MaskBatch(torch.stack([1 - foreground, foreground], dim=1), scores)

    # ---- storing -------------------------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """The edit space, the direction's name, the ranking's numbers."""
        ranking = [{name: value for name, value in row.items() if name != "direction"} for row in self.ranking]
        return {
            "latent_shape": list(self.space.shape),
            "spread": self.space.spread,
            "variance": self.variance,
            "chosen": self.chosen,
            "ranking": ranking,
        }

    def restore(self, facts: Mapping[str, Any]) -> None:
        """Take back what `facts()` gave."""
        shape = tuple(int(n) for n in facts["latent_shape"])
        self.space = EditSpace(shape, float(facts["spread"]), len(shape) > 1)
        self.variance, self.chosen = float(facts["variance"]), str(facts["chosen"])
        self.ranking = list(facts["ranking"])
        self.direction = torch.zeros(shape, device=self.direction.device)


# ---- ranking -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def rank(
    generator: Generator, among: list[Candidate], space: EditSpace, config: ColourMapsConfig, ctx: RunContext
) -> list[dict[str, Any]]:
    """Every candidate with its numbers, best first: name, direction, split, residual, change.

    `split` is ours (see `MapFit.split`), `residual` the released script's score, `change` the mean squared change.
    """
    eps = config.mask_shift * space.length(config.shift_unit)
    batches = list(_samples(generator, config.num_images, ctx))
    originals = torch.cat([batch.images for batch in batches])
    rows = []
    for name, direction in ctx.track(among[: ctx.limit(len(among))], "ranking directions"):
        shifted = torch.cat([shift(generator, batch, direction, eps) for batch in batches])
        found = fit_maps(originals, shifted, config, ctx.seed)
        numbers = {"split": found.split, "residual": found.two, "change": found.change}
        rounded = {key: round(value, 6) for key, value in numbers.items()}
        rows.append({"name": name, "direction": direction.cpu().tolist(), **rounded})
    if config.rank_by == "residual":
        return sorted(rows, key=lambda row: float(row["residual"]))
    return sorted(rows, key=lambda row: -float(row["split"]))


def shift(generator: Generator, batch: GeneratedBatch, direction: Tensor, eps: float) -> Tensor:
    """Images of the batch's codes moved by eps along a direction, clamped: [N, 3, H, W] float32."""
    with torch.no_grad():
        return generator.synthesize(batch.latents + eps * direction, batch.labels).images.clamp(-1, 1)


def _samples(generator: Generator, count: int, ctx: RunContext) -> list[GeneratedBatch]:
    """Samples made by synthesize(), so that original and shifted image have the same noise."""
    batches = []
    with torch.no_grad():
        for seeds in ctx.batches("fit", count, SPREAD_SAMPLES):
            batch = generator.synthesize(generator.latents(seeds), generator.labels(seeds))
            batches.append(GeneratedBatch(batch.images.clamp(-1, 1), batch.latents, batch.labels))
    return batches


# ---- two colour maps ---------------------------------------------------------------------------------------------


def map_errors(maps: Tensor, images: Tensor, shifted: Tensor) -> Tensor:
    """Mean squared error over the colours of every map at every pixel: [K, 3, 4], 2 x [N, 3, H, W] -> [N, K, H, W]."""
    made = torch.einsum("kdc,nchw->nkdhw", maps[:, :, :3], images) + maps[:, :, 3].view(1, -1, 3, 1, 1)
    return (made.clamp(-1, 1) - shifted.unsqueeze(1)).square().mean(dim=2)


@torch.no_grad()
def fit_maps(images: Tensor, shifted: Tensor, config: ColourMapsConfig, seed: int) -> MapFit:
    """The two maps that imitate the change best; the foreground's is the one whose pixels lie nearer to the middle.

    Args:
        images: [N, 3, H, W] float32 in [-1, 1].
        shifted: the same images, moved.
        config: `solver`.
        seed: of the released script's random start.
    """
    change = float((shifted - images).square().mean())
    one = _solve(*_pixels(images, shifted)).float().unsqueeze(0)
    if config.solver == "adam":
        maps = _descend(images, shifted, config.adam_steps, seed)
    else:
        maps = _best_of(images, shifted)
    errors = map_errors(maps, images, shifted)
    if _centrality(errors[:, 0] < errors[:, 1]) > _centrality(errors[:, 1] < errors[:, 0]):
        maps = maps.flip(0)
    return MapFit(maps, change, float(map_errors(one, images, shifted).mean()), float(errors.amin(dim=1).mean()))


def _best_of(images: Tensor, shifted: Tensor) -> Tensor:
    """Alternate from two starts and keep the better: lighter / darker than the mean change, middle / border."""
    change = (luma(shifted) - luma(images))[:, 0]
    middle = code_prior(*images.shape[-2:]).to(images.device) > 0
    found = [_alternate(images, shifted, start) for start in (change > change.mean(), middle.expand_as(change))]
    errors = [float(map_errors(maps, images, shifted).amin(dim=1).mean()) for maps in found]
    return found[errors.index(min(errors))]


def _alternate(images: Tensor, shifted: Tensor, second: Tensor) -> Tensor:
    """Least-squares maps of the pixels assigned to each, then assign anew, and so on; [2, 3, 4].

    # differs from the paper: its 200 gradient steps on random images reach the same maps in 50 times the time
    """
    colours, wanted = _pixels(images, shifted)
    maps = torch.zeros(2, 3, 4, device=images.device)
    for _ in range(ROUNDS):
        before = second
        for index, chosen in enumerate((~second, second)):
            maps[index] = _solve(colours[chosen.flatten()], wanted[chosen.flatten()]).float()
        errors = map_errors(maps, images, shifted)
        second = errors[:, 1] < errors[:, 0]
        if torch.equal(second, before):
            break
    return maps


def _pixels(images: Tensor, shifted: Tensor) -> tuple[Tensor, Tensor]:
    """Colours with a one behind them, [P, 4], and what they become, [P, 3]; float64."""
    colours = F.pad(images.permute(0, 2, 3, 1).reshape(-1, 3), (0, 1), value=1.0)
    return colours.double(), shifted.permute(0, 2, 3, 1).reshape(-1, 3).double()


def _solve(colours: Tensor, wanted: Tensor) -> Tensor:
    """The least-squares map, pulled a little towards the identity: [P, 4], [P, 3] -> [3, 4] float64."""
    identity = torch.eye(4, 3, dtype=torch.float64, device=colours.device)
    pull = RIDGE * max(len(colours), 1) * torch.eye(4, dtype=torch.float64, device=colours.device)
    solved: Tensor = torch.linalg.solve(colours.T @ colours + pull, colours.T @ wanted + pull @ identity)
    return solved.T


def _descend(images: Tensor, shifted: Tensor, steps: int, seed: int) -> Tensor:
    """The released script's way: Adam on the error of the better map, 4 images a step; [2, 3, 4]."""
    with isolated_rng(child_seed(seed, "maps")), torch.enable_grad():
        start = torch.empty(2, 3, 4).uniform_(-(3**-0.5), 3**-0.5)  # torch's default for three inputs
        maps = nn.Parameter((torch.eye(3, 4) + ADAM_SPREAD * start).to(images.device))
        optimizer = torch.optim.Adam([maps], lr=ADAM_LR)
        for _ in range(steps):
            rows = torch.randint(0, len(images), (ADAM_BATCH,))
            optimizer.zero_grad()
            map_errors(maps, images[rows], shifted[rows]).amin(dim=1).mean().backward()
            optimizer.step()
    return maps.detach()


def _centrality(mask: Tensor) -> float:
    """Mean of the radial prior over the pixels of a mask: positive when they lie in the middle."""
    prior = code_prior(*mask.shape[-2:]).to(mask.device).expand(mask.shape)
    return float(prior[mask].mean()) if bool(mask.any()) else float("-inf")


# ---- a direction in a file ---------------------------------------------------------------------------------------


def write_direction(path: Path, direction: Tensor, name: str) -> None:
    """Store a unit direction for `extractor.direction`; see `read_direction`."""
    save_tree(path, {FILE_KEY: direction.float().cpu(), "name": name})


def read_direction(path: Path, shape: tuple[int, ...]) -> Tensor:
    """A direction that `gsegkit directions score --save` wrote, [*shape] float32.

    Raises:
        ConfigError: it belongs to another generator.
        ArtifactError: missing or damaged.
    """
    stored = load_tree(path)
    direction = stored.get(FILE_KEY) if isinstance(stored, dict) else None
    if not isinstance(direction, Tensor) or tuple(direction.shape) != shape:
        got = list(direction.shape) if isinstance(direction, Tensor) else "no direction"
        raise ConfigError(f"'{path}' holds {got}, the generator's latents are {list(shape)}", "score this generator")
    return direction.float()
