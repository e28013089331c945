"""What the papers' tables mean: vectors worked out by hand, rows that the papers print, and scikit-learn."""

import gsegkit_eval
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gsegkit.config import Config
from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset, Sample
from gsegkit.errors import ConfigError
from gsegkit.interfaces import Segmenter
from gsegkit.plugins import Registry

REGISTRY = Registry()
REGISTRY.add(gsegkit_eval, "gsegkit-eval")


class Rows(LabelledDataset):
    def __init__(self, masks, classes):
        self.masks, self.classes = masks, classes

    def __len__(self):
        return len(self.masks)

    def __getitem__(self, index):
        mask = torch.as_tensor(self.masks[index], dtype=torch.uint8)
        return Sample(f"image-{index}", torch.full((3, *mask.shape), index, dtype=torch.uint8), mask)


class Told:
    """Answers an image by its first pixel."""

    def __init__(self, answers, classes=None):
        self.answers = answers
        if classes is not None:
            self.classes = classes

    def __call__(self, pixels):
        return self.answers[int(pixels[0, 0, 0, 0])][None]


def evaluate(predict, dataset, tmp_path, **options):
    options = {"num_match_images": 0, "baselines": False, **options}
    return REGISTRY.build("evaluator", "masks", options).evaluate(predict, dataset, RunContext(tmp_path))


def score(truths, found, classes, tmp_path, **options):
    answers = [F.one_hot(torch.as_tensor(f).long(), len(classes)).permute(2, 0, 1).float() for f in found]
    return evaluate(Told(answers, classes), Rows(truths, classes), tmp_path, **options)


# ---- Labels4Free: pooled counts, macro averages over background and foreground -------------------------------------


@pytest.mark.parametrize(
    ("share", "miou", "f1", "precision", "recall", "accuracy"),
    [
        (68, 0.34, 0.40, 0.34, 0.50, 0.68),  # Table 6, FFHQ: all foreground, which is 68 % of the pixels
        (28, 0.14, 0.22, 0.14, 0.50, 0.28),  # Table 6, horse
    ],
)
def test_a_collapsed_row_of_labels4free(share, miou, f1, precision, recall, accuracy, tmp_path):
    truth = (np.arange(100) < share).astype(np.uint8).reshape(10, 10)
    m = score([truth], [np.ones((10, 10))], ("background", "foreground"), tmp_path).metrics
    assert m["miou_dataset"] == pytest.approx(miou, abs=0.005)
    assert m["f1_macro_dataset"] == pytest.approx(f1, abs=0.005)
    assert m["precision_macro_dataset"] == pytest.approx(precision, abs=0.005)
    assert m["recall_macro_dataset"] == pytest.approx(recall, abs=0.005)
    assert m["accuracy_dataset"] == pytest.approx(accuracy)


@pytest.mark.parametrize("k", [2, 4])
def test_macro_averages_are_those_of_scikit_learn(k, tmp_path):
    sk = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(k)
    truths = [rng.integers(0, k, (6, 5 + i)) for i in range(3)]  # images of several sizes weigh by their pixels
    found = [np.where(rng.random(t.shape) < 0.6, t, rng.integers(0, k, t.shape)) for t in truths]
    m = score(truths, found, tuple(f"k{i}" for i in range(k)), tmp_path).metrics
    whole = [np.concatenate([each.ravel() for each in side]) for side in (truths, found)]
    expected = sk.precision_recall_fscore_support(*whole, average="macro")[:3]
    assert [m[f"{name}_macro_dataset"] for name in ("precision", "recall", "f1")] == pytest.approx(expected)


def test_f1_is_averaged_and_a_class_that_occurs_nowhere_is_left_out(tmp_path):
    m = score([[[0, 0, 0, 1]]], [[[0, 0, 1, 1]]], ("a", "b", "c"), tmp_path).metrics
    assert m["precision_macro_dataset"] == pytest.approx((1 + 1 / 2) / 2)
    assert m["recall_macro_dataset"] == pytest.approx((2 / 3 + 1) / 2)
    assert m["f1_macro_dataset"] == pytest.approx((4 / 5 + 2 / 3) / 2)  # of the averages it would be 0.789


def test_foreground_above_a_threshold(tmp_path):
    """Labels4Free: alpha > 0.9. The most probable class would be foreground from 0.5 on."""
    foreground = torch.tensor([[0.95, 0.91, 0.89, 0.6, 0.2, 0.0]])
    truth, answer = [[1, 1, 0, 0, 0, 0]], torch.stack([1 - foreground, foreground])
    data = Rows([truth], ("background", "foreground"))
    plain, strict = (evaluate(Told([answer]), data, tmp_path, **o) for o in ({}, {"threshold": 0.9}))
    assert plain.metrics["iou_foreground"] == pytest.approx(2 / 4)
    assert strict.metrics["iou_foreground"] == strict.metrics["f_beta"] == strict.metrics["accuracy"] == 1
    assert plain.metrics["max_f_beta"] == strict.metrics["max_f_beta"]
    assert "foreground where its probability is greater than 0.9" in strict.notes
    half = evaluate(Told([answer]), data, tmp_path, threshold=0.5)  # Melas-Kyriazi's F_beta
    assert half.metrics == plain.metrics
    turned = evaluate(Told([answer.flip(0)], ("foreground", "background")), data, tmp_path, threshold=0.9)
    assert turned.metrics == strict.metrics


def test_a_threshold_of_more_than_two_classes_is_refused(tmp_path):
    data = Rows([[[0, 1, 2]]], ("a", "b", "c"))
    answer = torch.eye(3)[:, None]
    for options in ({}, {"match": "greedy"}):
        with pytest.raises(ConfigError, match=r"threshold=0\.9 needs two predicted classes") as caught:
            evaluate(Told([answer]), data, tmp_path, threshold=0.9, **options)
        assert "omit the threshold" in caught.value.hint


# ---- KLiSH: the mean over the parts, without the background --------------------------------------------------------

FACE = ("background", "skin", "hair", "hat")
TRUTHS = [[[0, 0, 1, 1, 2, 2]], [[0, 0, 0, 1, 1, 1]]]
FOUND = [[[0, 2, 1, 2, 2, 2]], [[0, 2, 2, 1, 1, 2]]]


def test_parts_by_hand(tmp_path):
    report = score(TRUTHS, FOUND, FACE, tmp_path)
    m = report.metrics
    skin = (1 / 2 + 2 / 3) / 2
    hair = (2 / 4 + 0 / 3) / 2  # the second image has hair in its answer alone
    assert m["miou_parts"] == pytest.approx((skin + hair) / 2)  # hat occurs nowhere
    assert m["miou_parts_dataset"] == pytest.approx((3 / 5 + 2 / 7) / 2)
    background = (1 / 2 + 1 / 3) / 2
    assert m["miou"] == pytest.approx((background + skin + hair) / 3)
    assert m["miou_parts"] == pytest.approx(np.mean([report.per_class[n]["iou_per_image"] for n in ("skin", "hair")]))
    assert set(report.definitions) == set(m)


def test_painting_on_the_background_is_free_in_klish(tmp_path):
    m = score(TRUTHS, FOUND, FACE, tmp_path).metrics
    skin, hair = (1 / 2 + 2 / 3) / 2, (2 / 3 + 0 / 1) / 2
    assert m["miou_parts_void"] == pytest.approx((skin + hair) / 2)
    assert m["miou_parts_void_dataset"] == pytest.approx((3 / 5 + 2 / 4) / 2)
    all_hair = [np.where(np.array(t) == 0, 2, t) for t in TRUTHS]
    free = score(TRUTHS, all_hair, FACE, tmp_path).metrics
    assert free["miou_parts_void"] == 1
    assert free["miou_parts"] < 0.8


def test_a_reader_that_ignores_the_background_gives_the_same(tmp_path):
    void = [np.where(np.array(t) == 0, 255, t) for t in TRUTHS]
    one, other = (score(t, FOUND, FACE, tmp_path).metrics for t in (TRUTHS, void))
    assert other["miou_parts"] == other["miou_parts_void"] == one["miou_parts_void"]


def test_an_invented_hat_on_the_background_alone_is_no_hat(tmp_path):
    """In neither the truth nor the answer inside the face: left out, not 0."""
    m = score([[[0, 0, 1, 2]]], [[[0, 3, 1, 2]]], FACE, tmp_path).metrics
    assert m["miou_parts_void"] == 1
    assert m["miou_parts"] == pytest.approx((1 + 1 + 0) / 3)


def test_a_foreground_alone_has_no_parts(tmp_path):
    m = score([[[0, 1]]], [[[0, 1]]], ("background", "foreground"), tmp_path).metrics
    assert not [name for name in m if "parts" in name]


# ---- Melas-Kyriazi: at the photograph's own size -------------------------------------------------------------------


class Bright(Segmenter):
    """Foreground where the network's small picture is bright."""

    classes = ("background", "foreground")
    train_size = (4, 4)
    fit_rule = "crop"

    def fit(self, dataset, ctx, *, val=None):
        raise AssertionError

    def logits(self, images):
        self.seen = tuple(images.shape[-2:])
        return torch.cat([torch.zeros_like(images[:, :1]), images[:, :1] * 3], dim=1)


class Photographs(LabelledDataset):
    classes = ("background", "foreground")

    def __init__(self, pixels, masks):
        self.pixels, self.masks = pixels, masks

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        return Sample(f"photograph-{index}", self.pixels[index], self.masks[index])


def test_scored_at_the_original_size_with_the_short_side_at_the_networks(tmp_path):
    """8 x 12 px and 12 x 8 px: the network sees 4 x 6 and 6 x 4; logits return bilinearly, then the mask decides."""
    rng = torch.Generator().manual_seed(0)
    pixels = [torch.randint(0, 256, size, dtype=torch.uint8, generator=rng) for size in ((3, 8, 12), (3, 12, 8))]
    masks = [(image[0] > 127).to(torch.uint8) for image in pixels]
    segmenter = Bright(Config())
    m = evaluate(segmenter.probs, Photographs(pixels, masks), tmp_path, thresholds=254).metrics
    assert segmenter.seen == (6, 4)
    ious, fs = [], []
    for image, mask in zip(pixels, masks, strict=True):
        side = (4, 6) if image.shape[1] == 8 else (6, 4)
        small = F.interpolate(image[None].float(), side, mode="bilinear", antialias=True).round() / 127.5 - 1
        logits = F.interpolate(small[:, :1] * 3, image.shape[1:], mode="bilinear", align_corners=False)[0, 0]
        assert logits.shape == mask.shape
        found, true = logits > 0, mask == 1
        inside = int((found & true).sum())
        p, r = inside / int(found.sum()), inside / int(true.sum())
        ious.append(inside / int((found | true).sum()))
        fs.append(1.3 * p * r / (0.3 * p + r))
    assert m["iou_foreground"] == pytest.approx(np.mean(ious))
    assert m["f_beta"] == pytest.approx(np.mean(fs))
