"""Where every cluster of every level lies on a few generated images."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gsegkit.classes.colours import cluster_colours
from gsegkit.classes.match import parents
from gsegkit.classes.named import clusters_of
from gsegkit.classes.targets import coarse_parts
from gsegkit.context import RunContext
from gsegkit.errors import ConfigError
from gsegkit.images import shrunk_size, to_pixels
from gsegkit.interfaces import Generator, MaskExtractor

MAP_SIDE = 128  # longer side of the index maps: what a cluster is can be seen at this size
MAX_IMAGES = 128
UNKNOWN = 255  # in a map: nothing is known of this pixel's cluster
CANDIDATES = 8  # images labelled for each one shown, so that rare clusters are seen


def num_candidates(num_images: int) -> int:
    """How many images to label in order to show `num_images` of them."""
    return min(num_images * CANDIDATES, MAX_IMAGES)


@dataclass(frozen=True)
class View:
    """One level.

    Attributes:
        k: number of clusters.
        ids: the clusters in class order.
        shares: their shares of the pixels: those of the fit, or of the images shown where the fit stored none.
        facts: numbers that the method gives for this level (lowest separability ...).
        maps: [N, h, w] uint8, positions in `ids`; 255 = not known, on photographs only.
        above: for each cluster the one that it is, or becomes part of, on the next coarser level of those shown, or
            of the extractor's where none of them is coarser; () = there is none, or clusters do not merge.
    """

    k: int
    ids: tuple[int, ...]
    shares: tuple[float, ...]
    facts: Mapping[str, float]
    maps: Tensor
    above: tuple[int, ...] = ()

    @property
    def joined(self) -> tuple[int, ...]:
        """The clusters that become one, or become parts of others, on the next coarser level."""
        return tuple(own for own, other in zip(self.ids, self.above, strict=False) if own != other)


@dataclass(frozen=True)
class Shown:
    """Generated images and the levels on them.

    Attributes:
        fingerprint: of the fit.
        has_levels: whether there is anything to cut.
        k: number of clusters of the present cut.
        pixels: [N, 3, H, W] uint8.
        seeds: identities of the images.
        levels: rising in the number of clusters.
        names: what the extractor calls its classes now.
        coarse: number of clusters of the coarse cut; 0 = none among the levels.
        photographs: names of the last of the pictures, which are photographs and have no seeds.
        colours: of every cluster of every level, "#rrggbb"; {} without levels.
    """

    fingerprint: str
    has_levels: bool
    k: int
    pixels: Tensor
    seeds: tuple[int, ...]
    levels: tuple[View, ...]
    names: tuple[str, ...]
    coarse: int = 0
    photographs: tuple[str, ...] = ()
    colours: Mapping[int, str] = field(default_factory=dict)


def look(
    generator: Generator,
    extractor: MaskExtractor,
    ctx: RunContext,
    num_images: int = 12,
    cut: int | None = None,
    max_clusters: int | None = None,
    candidates: int = 0,
) -> Shown:
    """Label generated images (seeds of purpose "preview") with the clusters of some levels.

    Args:
        generator: on its device.
        extractor: fitted, on the same device.
        ctx: its batch size is the micro-batch.
        num_images: images to show.
        cut: only this level; None = the present cut, and with `max_clusters` all levels of 2 to that many clusters.
        max_clusters: finest level beside the present one.
        candidates: choose half of the images among this many, so that rare clusters are seen, see `choose_pictures`.

    Raises:
        ConfigError: no image, too many, or no such level.
    """
    if not 1 <= num_images <= MAX_IMAGES:
        raise ConfigError(f"{num_images} images cannot be shown", f"choose 1 to {MAX_IMAGES}")
    present = len(extractor.classes)
    if max_clusters is None:
        ks = [len(clusters_of(extractor, cut))]
    else:
        ks = sorted({k for k in extractor.levels if 2 <= k <= max_clusters} | {present})
    generator.eval()
    extractor.eval()
    seeds = ctx.seeds("preview", num_images)
    if candidates > num_images:
        finest = max((k for k in ks if max_clusters is None or k <= max_clusters), default=ks[-1])
        seeds = ctx.seeds("preview", candidates)
        seeds = seeds[
            choose_pictures(_label(generator, extractor, ctx, seeds, [finest])[1][finest], finest, num_images)
        ]
    pixels, maps = _label(generator, extractor, ctx, seeds, ks)
    return Shown(
        fingerprint=extractor.fingerprint(),
        has_levels=bool(extractor.levels),
        k=present,
        pixels=pixels,
        seeds=tuple(seeds.tolist()),
        levels=tuple(_view(extractor, k, maps[k], _coarser(extractor, ks, k)) for k in ks),
        names=tuple(extractor.classes),
        coarse=coarse_parts(extractor)[0] if extractor.levels else 0,
        colours=cluster_colours(extractor, ks[-1]),
    )


def choose_pictures(maps: Tensor, clusters: int, count: int) -> list[int]:
    """Images on which every cluster is seen, as far as that goes.

    The first half are the first ones; then, one by one, comes the image that shows most of the cluster of which the
    images chosen so far show least.

    Args:
        maps: [N, h, w] uint8, positions of clusters.
        clusters: number of clusters.
        count: images to choose, at most N.

    Returns:
        Positions, rising.
    """
    shares = torch.stack([(maps == value).float().mean(dim=(1, 2)) for value in range(clusters)], dim=1)  # [N, K]
    chosen = list(range((count + 1) // 2))
    reachable = shares.amax(dim=0)
    while len(chosen) < count:
        seen = shares[chosen].amax(dim=0)
        weakest = int(torch.where(seen < reachable, seen, torch.inf).argmin())  # one shown at its best needs no more
        column = shares[:, weakest].clone()
        column[chosen] = -1
        chosen.append(int(column.argmax()))
    return sorted(chosen)


def _label(
    generator: Generator, extractor: MaskExtractor, ctx: RunContext, seeds: Tensor, ks: Sequence[int]
) -> tuple[Tensor, dict[int, Tensor]]:
    """Images [N, 3, H, W] uint8, and for each level the clusters' positions [N, h, w] uint8."""
    names = extractor.features(generator.info)
    pixels: list[Tensor] = []
    maps: dict[int, list[Tensor]] = {k: [] for k in ks}
    for chunk in ctx.track(list(torch.split(seeds, ctx.batch_size)), "looking at clusters"):
        batch = generator.sample(chunk, features=names)
        size = shrunk_size(int(batch.images.shape[2]), int(batch.images.shape[3]), MAP_SIDE)
        pixels.append(to_pixels(batch.images).cpu())
        for k in ks:
            with _cut(extractor, k):
                maps[k].append(extractor.masks(batch, generator, size).to(torch.uint8).cpu())
    return torch.cat(pixels), {k: torch.cat(found) for k, found in maps.items()}


@contextlib.contextmanager
def _cut(extractor: MaskExtractor, k: int) -> Iterator[None]:
    """The extractor at a level; afterwards it has its own cut again."""
    present = len(extractor.classes)
    if k == present:  # all there is without levels
        yield
        return
    extractor.cut(k)
    try:
        yield
    finally:
        extractor.cut(present)


def _coarser(extractor: MaskExtractor, ks: Sequence[int], k: int) -> int | None:
    """The next coarser level of those shown, else of the extractor's."""
    return max((other for other in ks if other < k), default=None) or max(
        (other for other in extractor.levels if other < k), default=None
    )


def _view(extractor: MaskExtractor, k: int, maps: Tensor, coarser: int | None) -> View:
    if extractor.levels:
        level = extractor.level(k)
        above: tuple[int, ...] = ()
        if coarser is not None:
            with contextlib.suppress(ConfigError):  # levels of a method that does not merge
                parent = parents(extractor, k, coarser)
                above = tuple(parent[cluster] for cluster in level.ids)
        return View(k, level.ids, level.shares, _numbers(level.facts), maps, above)
    counts = torch.bincount(maps.flatten().long(), minlength=k).tolist()
    return View(k, tuple(range(k)), tuple(round(count / maps.numel(), 6) for count in counts), {}, maps)


def _numbers(facts: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in facts.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
