"""What our own generators needed: the only grounds on which `start` says what is realistic. Imports no torch."""

from __future__ import annotations

from typing import Any, NamedTuple

from gsegkit.progress import duration

FEWEST = 500  # photographs; nothing below was tried


class Trained(NamedTuple):
    """A generator of gsegkit-zoo; the numbers are those of its card."""

    name: str
    photographs: int
    images_shown: int


ZOO = (
    Trained("coffee-leaf-64", 1_747, 227_792),
    Trained("lpc-64", 4_000, 192_568),
    Trained("portraits-64", 6_602, 1_000_000),
    Trained("blood-cells-64", 10_000, 1_000_384),
)

#: Images shown -> what the zoo's trainings at 64 x 64 had reached.
REACHED = (
    (0, "blurred shapes, so expect nothing of the run: our leaves resembled leaves only after 50,000"),
    (50_000, "the shape of the thing, as our leaves after 50,000; details come after 100,000"),
    (100_000, "shape and large details, as our leaves after 100,000"),
    (190_000, "rough but usable pictures, as our figures (192,568) and leaves (227,792) in the end"),
    (400_000, "good pictures: our blood cells' distance to photographs was .023 after 403,088, .018 after a million"),
    (1_000_000, "as good as ours: their distance to photographs no longer falls steadily"),
)
ENOUGH = 1_000_000  # images shown: more was no longer better at this size

#: Generator -> options that its zoo networks were trained with: on a CPU, and on a GPU.
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "stylegan2": (
        {"resolution": 64, "channel_base": 1024, "channel_max": 128, "mapping_layers": 2, "grow_from": 16,
         "r1_gamma": 0.1, "batch_size": 16, "kimg": 1000},
        {"resolution": 128, "channel_base": 1024, "channel_max": 128, "mapping_layers": 2, "grow_from": 16,
         "r1_gamma": 0.4, "batch_size": 64, "ema_kimg": 20, "kimg": 1600},
    ),
}  # fmt: skip
FULL_GROWTH, LEAST_GROWTH = 10.0, 0.25  # thousand images at each lower resolution
GROWTH_SHARE = 0.1  # of a short training, for each lower resolution


def enough_photographs(count: int, fewest: int = FEWEST) -> tuple[bool, str]:
    """Whether a generator is worth trying, and a sentence about it."""
    least, most = ZOO[0], ZOO[-1]
    ours = f"ours learned from {least.photographs:,} ({least.name}) to {most.photographs:,} ({most.name})"
    if count < fewest:
        return False, f"{count:,} photographs are too few for a generator: {ours}, and below {fewest:,} none is tried."
    if count < least.photographs:
        return (
            True,
            f"{count:,} photographs are fewer than any of our generators had ({ours}): expect less than theirs.",
        )
    return True, f"{count:,} photographs are enough for a generator: {ours}."


def expectation(images_shown: int, images_per_second: float, generator_share: float) -> str:
    """What so many images shown will give, and how long more would take.

    Args:
        images_shown: to the discriminator, photographs counted as often as they are shown.
        images_per_second: of the training.
        generator_share: of the whole time that the training gets.
    """
    reached = [words for count, words in REACHED if count <= images_shown][-1]
    said = f"About {images_shown:,} images can be shown in the training: {reached}."
    more = next((count for count, _ in REACHED if count > images_shown and count >= 190_000), None)
    if more is not None and images_per_second > 0:
        hours = more / images_per_second / max(generator_share, 0.05) / 3600
        said += f" For {more:,}, give --hours {hours:.2g} or more ({duration(more / images_per_second)} of training)."
    return said


def growth(images_shown: int) -> float:
    """Thousand images at each lower resolution: that of the zoo, less in a short training."""
    return min(FULL_GROWTH, max(LEAST_GROWTH, round(images_shown * GROWTH_SHARE / 1000, 2)))
