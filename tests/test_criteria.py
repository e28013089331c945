"""Criteria without annotations, on masks and photographs whose order is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gsegkit.comparing import criteria
from gsegkit.comparing.foreground import are_clusters, foreground_classes


def disc(size: int = 40, radius: float = 12, at: tuple[float, float] = (20, 20)) -> Tensor:
    """[size, size] bool."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return (rows - at[0]) ** 2 + (columns - at[1]) ** 2 <= radius**2


def photograph(mask: Tensor) -> Tensor:
    """Reddish where the mask is, greenish elsewhere, with noise: [3, H, W] uint8."""
    noise = torch.randint(0, 20, (3, *mask.shape), generator=torch.Generator().manual_seed(1))
    colours = torch.where(mask, torch.tensor([180, 60, 60])[:, None, None], torch.tensor([60, 150, 70])[:, None, None])
    return (colours + noise).to(torch.uint8)


def test_iou() -> None:
    one = torch.tensor([[True, True, False]])
    assert criteria.iou(one, torch.tensor([[True, False, True]])) == pytest.approx(1 / 3)
    assert criteria.iou(~one & one, ~one & one) == 1.0


def test_consensus_counts_a_family_once_and_never_its_own() -> None:
    good, bad = disc(), ~disc()
    masks = {"good": [good], "also good": [good], "bad 1": [bad], "bad 2": [bad], "bad 3": [bad]}
    families = {"good": "a", "also good": "b", "bad 1": "c", "bad 2": "c", "bad 3": "c"}
    found = criteria.consensus(masks, families)
    # two families against one: three variants of one fault are one witness
    assert found["bad 1"] == [0.0]
    # of "good", families b and c are left: one against one, more than half is nowhere
    assert found["good"] == [0.0]
    masks["third"], families["third"] = [good], "d"
    found = criteria.consensus(masks, families)
    assert found["good"] == [1.0]
    assert found["bad 2"] == [0.0]
    assert criteria.agreement(masks, families)["good"] == [pytest.approx(2 / 3)]


def test_one_family_has_no_witness() -> None:
    masks, families = {"a": [disc()], "b": [disc()]}, {"a": "x", "b": "x"}
    assert criteria.consensus(masks, families) == {} == criteria.agreement(masks, families)


@pytest.mark.parametrize("criterion", [criteria.separation, criteria.edges])
def test_the_true_mask_is_better_than_a_shifted_one(criterion: criteria.Criterion) -> None:
    true = disc()
    looked = criteria.Looked.at(photograph(true))
    values = [criterion(looked, disc(at=(20 + shift, 20))) for shift in (0, 3, 8)]
    assert values[0] > values[1] > values[2]
    assert values[0] > 0.75
    assert criterion(looked, torch.zeros_like(true)) == 0.0


def test_an_outline_is_no_border_of_the_photograph() -> None:
    left = torch.zeros(6, 8, dtype=torch.bool)
    left[:, :3] = True
    assert criteria.outline(left).nonzero()[:, 1].unique().tolist() == [2, 3]
    assert not criteria.outline(torch.ones(5, 5, dtype=torch.bool)).any()


def test_plausible_is_neither_nothing_nor_everything() -> None:
    assert criteria.plausibility(disc()) == 1.0
    assert criteria.plausibility(torch.zeros(9, 9, dtype=torch.bool)) == 0.0
    assert criteria.plausibility(torch.ones(9, 9, dtype=torch.bool)) == 0.0


def test_stability_sees_what_depends_on_place_or_colour() -> None:
    mask = disc(at=(22, 16))
    pixels = photograph(mask)
    left = torch.zeros_like(mask)
    left[:, :20] = True

    def both(p: Tensor) -> dict[str, Tensor]:
        return {"colour": p[0] > p[1], "place": torch.arange(p.shape[2]).expand(p.shape[1:]) < 20}

    found = criteria.stability(both, pixels, {"colour": mask, "place": left})
    assert found["colour"] == 1.0
    assert found["place"] < 0.9


def test_lab_of_known_colours() -> None:
    pixels = torch.tensor([[255, 0, 255], [255, 0, 0], [255, 0, 0]], dtype=torch.uint8)[:, None, :]
    white, black, red = criteria.lab(pixels)[:, 0].T
    assert torch.allclose(white, torch.tensor([100.0, 0.0, 0.0]), atol=0.05)
    assert torch.allclose(black, torch.zeros(3), atol=0.05)
    assert torch.allclose(red, torch.tensor([53.24, 80.09, 67.20]), atol=0.1)


def test_clusters_that_keep_off_the_border_are_foreground() -> None:
    labels = torch.zeros(20, 20, dtype=torch.int64)
    labels[5:15, 5:15] = 2
    labels[:, :2] = 1
    names = ("cluster-4", "cluster-7", "cluster-9")
    assert foreground_classes(names, [labels]).tolist() == [False, False, True]
    assert foreground_classes(("background", "leaf"), []).tolist() == [False, True]
    assert are_clusters(names)
    assert not are_clusters(("background", "cluster-1"))
