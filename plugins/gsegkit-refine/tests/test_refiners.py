import subprocess
import sys

import gsegkit_refine
import pytest
import torch
from pydantic import ValidationError

from gsegkit.errors import CapabilityError, ConfigError
from gsegkit.plugins import Registry
from gsegkit.types import LabelledBatch

REGISTRY = Registry()
REGISTRY.add(gsegkit_refine, "gsegkit-refine")
NAMES = ("area", "components", "change", "confidence", "holes", "guided", "colours", "voynov")


def make(name, **options):
    return REGISTRY.build("refiner", name, options)


def batch_of(masks, classes=2, pixels=None, sure=0.9, **scores):
    """A batch of the given masks ([N, H, W]); probabilities are `sure` for the mask's class."""
    masks = torch.as_tensor(masks, dtype=torch.uint8)
    n, h, w = masks.shape
    labels = masks.long().masked_fill(masks == 255, 0)
    probs = torch.full((n, classes, h, w), (1 - sure) / (classes - 1))
    probs.scatter_(1, labels.unsqueeze(1), sure)
    if pixels is None:
        pixels = torch.randint(0, 256, (n, 3, h, w), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    return LabelledBatch(torch.arange(n), pixels, masks, probs, {k: torch.tensor(v) for k, v in scores.items()})


def random_batch(n=7, classes=3, h=33, w=47):
    generator = torch.Generator().manual_seed(1)
    noise = torch.nn.functional.avg_pool2d(torch.randn(n, classes, h + 6, w + 6, generator=generator), 7, 1)
    probs = (8 * noise).softmax(dim=1)
    masks = probs.argmax(dim=1).to(torch.uint8)
    masks[torch.rand(n, h, w, generator=generator) < 0.01] = 255
    pixels = torch.randint(0, 256, (n, 3, h, w), generator=generator).to(torch.uint8)
    pixels[2] = 0
    scores = {"contrast": torch.rand(n, generator=generator) * 0.2, "histogram_peaks": torch.arange(n) % 4 + 1.0}
    return LabelledBatch(torch.arange(n) + 100, pixels, masks, probs, scores)


def equal(a, b):
    same = all(torch.equal(getattr(a, f), getattr(b, f)) for f in ("seeds", "pixels", "masks", "probs"))
    return same and a.scores.keys() == b.scores.keys() and all(torch.equal(a.scores[k], b.scores[k]) for k in a.scores)


# ---- what holds for all ------------------------------------------------------------------------------------------


def test_all_are_registered_and_light():
    assert not REGISTRY.failures
    assert sorted(entry.component.name for entry in REGISTRY.entries) == sorted(NAMES)
    code = "import sys, gsegkit_refine, gsegkit_refine.config; print({'torch', 'scipy', 'kornia', 'numpy'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


CASES = [
    ("area", {"min": 0.55, "max": 0.7}),
    ("components", {}),
    ("components", {"per": "class", "connectivity": 4, "dropped": "ignore"}),
    ("change", {"min_contrast": 0.1}),
    ("change", {"rule": "histogram", "unedited": True}),
    ("confidence", {"threshold": 0.8, "max_ignored": 0.4}),
    ("holes", {"share": 0.3}),
    ("guided", {}),
    ("guided", {"colour": False, "radius": 2}),
    ("colours", {}),
    ("colours", {"components": 2, "side": 32}),
    ("voynov", {"max_area": 0.66}),
    ("voynov", {"profile": "strict", "max_area": 0.9, "min_contrast": 0.1}),
]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_rows_do_not_depend_on_their_batch(name, options):
    batch = random_batch()
    refiner = make(name, **options)
    before = torch.random.get_rng_state()
    whole = refiner.refine(batch)
    assert torch.equal(before, torch.random.get_rng_state())
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(3))
    shuffled = LabelledBatch(
        batch.seeds[order],
        batch.pixels[order],
        batch.masks[order],
        batch.probs[order],
        {k: v[order] for k, v in batch.scores.items()},
    )
    permuted = refiner.refine(shuffled)
    singles = [refiner.refine(batch.keep(torch.arange(len(batch)) == i)) for i in range(len(batch))]
    singles = [one for one in singles if len(one)]
    assert sorted(permuted.seeds.tolist()) == whole.seeds.tolist() == [int(one.seeds) for one in singles]
    for i, seed in enumerate(whole.seeds.tolist()):
        row = whole.keep(torch.arange(len(whole)) == i)
        assert equal(row, permuted.keep(permuted.seeds == seed))
        assert equal(row, singles[i])
    assert torch.equal(whole.pixels, batch.pixels[torch.isin(batch.seeds, whole.seeds)])


@pytest.mark.parametrize("name", NAMES)
def test_input_is_not_changed_and_an_empty_batch_passes(name):
    batch, copy = random_batch(), random_batch()
    refiner = make(name)
    refiner.refine(batch)
    assert equal(batch, copy)
    assert len(refiner.refine(batch.keep(torch.zeros(7, dtype=torch.bool)))) == 0


# ---- area --------------------------------------------------------------------------------------------------------


def shares(*counts, ignored=0):
    masks = torch.zeros(len(counts), 10, 10, dtype=torch.uint8)
    for row, count in enumerate(counts):
        masks[row].view(-1)[:count] = 1
        if ignored:
            masks[row].view(-1)[-ignored:] = 255
    return batch_of(masks)


def test_area_window_is_inclusive_and_any_class_is_foreground():
    batch = shares(0, 9, 10, 50, 51)
    assert make("area", min=0.1, max=0.5).refine(batch).seeds.tolist() == [2, 3]
    twos = batch_of(batch.masks * 2, classes=3)
    assert make("area", min=0.1, max=0.5).refine(twos).seeds.tolist() == [2, 3]


def test_area_paper_window_lets_the_empty_mask_pass_and_the_default_does_not():
    batch = shares(0, 30, 60, 90)
    assert make("area", profile="paper").refine(batch).seeds.tolist() == [0, 1]
    assert make("area").refine(batch).seeds.tolist() == [1, 2]


def test_area_ignores_255():
    refined = make("area", min=0, max=1).refine(shares(25, ignored=50))
    assert refined.scores["area"].tolist() == [0.5]
    assert len(make("area", min=0, max=1).refine(batch_of(torch.full((1, 4, 4), 255)))) == 0


def test_area_limits_must_be_ordered():
    with pytest.raises(ConfigError, match=r"min \(0\.6\) must not exceed max"):
        make("area", min=0.6, max=0.5)


# ---- components --------------------------------------------------------------------------------------------------


def picture(text):
    rows = text.split()
    return torch.tensor([[255 if c == "x" else int(c) for c in row] for row in rows], dtype=torch.uint8)


def test_components_keeps_pieces_strictly_above_the_share():
    mask = torch.zeros(1, 12, 12, dtype=torch.uint8)
    mask[0, 0, :10] = 1
    mask[0, 3, :2] = 1  # exactly 0.2 of the largest: dropped, as in the released code
    mask[0, 6, :3] = 1
    mask[0, 9, 5] = 1
    kept = make("components").refine(batch_of(mask)).masks[0]
    assert [int(kept[row].sum()) for row in (0, 3, 6, 9)] == [10, 0, 3, 0]


def test_components_diagonal_neighbours():
    mask = picture("1100 1100 0010 0000")[None]
    assert int(make("components", share=0.5).refine(batch_of(mask)).masks.sum()) == 5
    assert int(make("components", share=0.5, connectivity=4).refine(batch_of(mask)).masks.sum()) == 4


def test_components_of_the_foreground_or_of_each_class():
    mask = picture("111100 111100 112000 000000 000020")[None]
    whole = make("components", share=0.5).refine(batch_of(mask, 3)).masks[0]
    assert torch.equal(whole, picture("111100 111100 112000 000000 000000"))
    each = make("components", share=0.5, per="class").refine(batch_of(mask, 3)).masks[0]
    assert torch.equal(each, mask[0])


def test_components_dropped_pixels_can_be_ignored_and_255_is_no_foreground():
    mask = picture("1110x 11100 00000 0x001")[None]
    refined = make("components", dropped="ignore").refine(batch_of(mask)).masks[0]
    assert torch.equal(refined, picture("1110x 11100 00000 0x00x"))


def test_components_empty_mask():
    mask = torch.zeros(2, 5, 5)
    assert torch.equal(make("components").refine(batch_of(mask)).masks, mask.to(torch.uint8))


# ---- change ------------------------------------------------------------------------------------------------------


def test_histogram_rule_prefers_the_score_of_the_extractor():
    batch = batch_of(torch.zeros(3, 8, 8), histogram_peaks=[1.0, 2.0, 3.0])
    assert make("change", rule="histogram").refine(batch).seeds.tolist() == [1, 2]
    with pytest.raises(CapabilityError, match="histogram_peaks"):
        make("change", rule="histogram").refine(batch_of(torch.zeros(3, 8, 8)))


def test_histogram_rule_on_the_pictures():
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 25 + 128
    pixels[1, :, :, :32] -= 90
    pixels[1, :, :, 32:] += 90
    batch = batch_of(torch.zeros(2, 64, 64), pixels=pixels.clamp(0, 255).to(torch.uint8))
    assert make("change", rule="histogram", unedited=True).refine(batch).seeds.tolist() == [1]


def test_contrast_rule_rejects_blank_saturated_and_unchanged():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(1, 255, (4, 3, 16, 16), generator=generator).to(torch.uint8)
    pixels[1] = 117
    pixels[2] = (torch.rand(16, 16, generator=generator) > 0.5).to(torch.uint8) * 255
    batch = batch_of(torch.zeros(4, 16, 16), pixels=pixels)
    assert make("change").refine(batch).seeds.tolist() == [0, 3]
    scored = batch.with_scores(contrast=torch.tensor([0.04, 1.0, 1.0, 0.06]))
    assert make("change").refine(scored).seeds.tolist() == [3]


# ---- confidence --------------------------------------------------------------------------------------------------


def test_confidence_ignores_pixels_then_drops_rows():
    batch = batch_of(torch.zeros(2, 4, 4), sure=0.9)
    batch.probs[0, :, 0] = 0.5
    batch.probs[1, :, :3] = 0.5
    refined = make("confidence").refine(batch)
    assert refined.seeds.tolist() == [0]
    assert refined.scores["ignored"].tolist() == [0.25]
    assert torch.equal(refined.masks[0] == 255, torch.arange(4).view(4, 1).expand(4, 4) == 0)
    assert refined.masks[0, 1:].max() == 0


def test_confidence_counts_pixels_that_were_ignored_before():
    batch = batch_of(picture("xxx0 xxx0 xxx0 0000")[None])
    assert len(make("confidence").refine(batch)) == 0
    assert len(make("confidence", max_ignored=0.6).refine(batch)) == 1


# ---- holes -------------------------------------------------------------------------------------------------------


def test_holes_are_filled_with_the_class_around_them():
    mask = picture("0000000 0111220 0101220 0111202 0112220 0000000")[None]
    refined = make("holes", share=0.2).refine(batch_of(mask, 3)).masks[0]
    assert torch.equal(refined, picture("0000000 0111220 0111220 0111222 0112220 0000000"))


def test_holes_large_or_open_ones_stay():
    open_hole = picture("11111 10001 11011 11111")
    open_hole[0, 2] = 0
    large = picture("11111 10001 10001 11111")
    masks = torch.stack([open_hole, large])
    assert torch.equal(make("holes", share=0.2).refine(batch_of(masks)).masks, masks)
    assert int(make("holes", share=0.5).refine(batch_of(masks)).masks[1].sum()) == 20


def test_holes_of_ignored_pixels_and_other_classes_are_no_holes():
    mask = picture("11111 1x121 11111")[None]
    assert torch.equal(make("holes", share=1).refine(batch_of(mask, 3)).masks, mask)


# ---- guided ------------------------------------------------------------------------------------------------------


def disk(size=64):
    axis = torch.arange(size) - size / 2 + 0.5
    distance = (axis[:, None] ** 2 + axis[None] ** 2).sqrt()
    return (distance < size * 0.3), (distance < size * 0.35)


@pytest.mark.parametrize("colour", [True, False])
def test_guided_moves_the_border_to_the_edge(colour):
    truth, mask = disk()
    pixels = torch.where(truth, 220, 30).to(torch.uint8).expand(1, 3, 64, 64).contiguous()
    batch = batch_of(mask[None], pixels=pixels, sure=0.7)
    refined = make("guided", radius=6, colour=colour).refine(batch)

    def iou(found):
        return float(((found == 1) & truth).sum() / ((found == 1) | truth).sum())

    assert iou(batch.masks[0]) < 0.78
    assert iou(refined.masks[0]) > 0.9
    changed = (refined.masks != batch.masks).float().mean()
    assert float(refined.scores["guided_changed"]) == pytest.approx(float(changed))
    torch.testing.assert_close(refined.probs.sum(dim=1), torch.ones(1, 64, 64))
    assert torch.equal(refined.probs.argmax(dim=1).to(torch.uint8), refined.masks)


def test_guided_respects_255_and_what_earlier_refiners_decided():
    batch = batch_of(torch.zeros(1, 32, 32), pixels=torch.full((1, 3, 32, 32), 90, dtype=torch.uint8))
    batch.probs[0, :, 2:18, 4:28] = torch.tensor([0.1, 0.9]).view(2, 1, 1)  # `components` took this piece out
    batch.masks[0, 20:24] = 255
    assert batch.decided()[0, 0, 2:18, 4:28].min() == 1
    refined = make("guided").refine(batch)
    assert int((refined.masks == 1).sum()) == 0
    assert torch.equal(refined.masks == 255, batch.masks == 255)


def test_guided_radius_must_fit():
    with pytest.raises(ConfigError, match="only 8 pixels"):
        make("guided", radius=8).refine(batch_of(torch.zeros(1, 8, 20)))


# ---- voynov ------------------------------------------------------------------------------------------------------


def voynov_batch(*counts, **scores):
    scores = {"histogram_peaks": [2.0] * len(counts), "contrast": [1.0] * len(counts), **scores}
    return shares(*counts).with_scores(**{name: torch.tensor(value) for name, value in scores.items()})


def test_voynov_as_released_looks_at_the_mask_of_one_direction():
    batch = voynov_batch(0, 30, 50, 51, 30, histogram_peaks=[2.0, 2.0, 2.0, 2.0, 1.0])
    assert make("voynov").refine(batch).seeds.tolist() == [0, 1, 2]


def test_voynov_as_released_looks_at_both_directions_masks_and_not_at_the_combined_one():
    batch = voynov_batch(0, 30, 90, 30, coverage_light=[0.1, 0.6, 0.1, 0.1], coverage_dark=[0.1, 0.1, 0.5, 0.6])
    assert make("voynov").refine(batch).seeds.tolist() == [0, 2]


def test_voynov_strict_rejects_empty_blank_and_unchanged_and_filters_the_combined_mask():
    each = {"coverage_light": [0.1] * 5, "coverage_dark": [0.1] * 5, "contrast": [1.0, 1.0, 1.0, 0.01, 1.0]}
    batch = voynov_batch(0, 30, 90, 30, 30, **each)
    batch.pixels[4] = 90
    assert make("voynov", profile="strict").refine(batch).seeds.tolist() == [1]
    assert make("voynov", profile="strict", max_area=0.95).refine(batch).seeds.tolist() == [1, 2]
    assert make("voynov").refine(batch).seeds.tolist() == [0, 1, 2, 3, 4]


def test_voynov_takes_small_pieces_out_before_it_measures():
    batch = shares(50)
    batch.masks[0, 9, 5:] = 1
    assert len(make("voynov").refine(batch.with_scores(histogram_peaks=torch.tensor([2.0])))) == 1


def test_voynov_equals_the_chain_of_three():
    batch = random_batch(20)
    chain = [make("components"), make("area", profile="paper"), make("change", rule="histogram")]
    expected = batch
    for refiner in chain:
        expected = refiner.refine(expected)
    found = make("voynov").refine(batch)
    assert 0 < len(found) < 20
    assert equal(found, expected)


def test_voynov_needs_the_peaks():
    with pytest.raises(CapabilityError, match="histogram_peaks"):
        make("voynov").refine(shares(10))


def test_voynov_limits_must_be_ordered():
    with pytest.raises(ConfigError, match=r"min_area \(0\.6\) must not exceed"):
        make("voynov", min_area=0.6)


def test_order_is_the_users():
    mask = picture("1111100 1000100 1000100 1111100 0000000 0000000")[None]
    area, holes = make("area", min=0.4, max=1), make("holes", share=1)
    assert len(holes.refine(area.refine(batch_of(mask)))) == 0
    assert len(area.refine(holes.refine(batch_of(mask)))) == 1


def test_options_have_bounds():
    for name, options in [("confidence", {"threshold": 1.1}), ("components", {"share": 1}), ("guided", {"radius": 0})]:
        with pytest.raises(ConfigError):
            make(name, **options)
    from gsegkit_refine.config import HolesConfig

    with pytest.raises(ValidationError):
        HolesConfig(share=-0.1)
