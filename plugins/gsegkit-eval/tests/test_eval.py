import json
import math
import subprocess
import sys

import gsegkit_eval
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gsegkit_eval.matching import greedy

from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset, Sample
from gsegkit.errors import ConfigError, ContractError, DataError
from gsegkit.plugins import Registry
from gsegkit.testing.data import benchmark_data

REGISTRY = Registry()
REGISTRY.add(gsegkit_eval, "gsegkit-eval")

# ---- small data sets and predictors ------------------------------------------------------------------------------


class Rows(LabelledDataset):
    """Samples of any size."""

    def __init__(self, samples, classes):
        self.samples, self.classes = samples, classes

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


class Lookup:
    """A predictor that knows the answer of each picture by its first pixel, [K, H, W] probabilities each."""

    def __init__(self, answers, classes=None):
        self.answers = answers
        self.calls = 0
        if classes is not None:
            self.classes = classes

    def __call__(self, pixels):
        self.calls += 1
        return self.answers[int(pixels[0, 0, 0, 0])][None]


def dataset_of(masks, classes=None):
    """Numbered pictures with the given masks (a list of [H, W]); class names k0, k1 ... by default."""
    masks = [torch.as_tensor(mask, dtype=torch.uint8) for mask in masks]
    if classes is None:
        top = max(int(mask[mask != 255].max()) if (mask != 255).any() else 0 for mask in masks)
        classes = tuple(f"k{i}" for i in range(max(top + 1, 2)))
    samples = []
    for index, mask in enumerate(masks):
        pixels = torch.full((3, *mask.shape), index, dtype=torch.uint8)
        samples.append(Sample(f"image-{index}", pixels, mask))
    return Rows(samples, tuple(classes))


def one_hot(labels, k):
    return [F.one_hot(torch.as_tensor(label).long(), k).permute(2, 0, 1).float() for label in labels]


def random_case(n=5, k_true=3, k_predicted=3, ignored=0.1, seed=0):
    """Masks and probabilities of images of different sizes."""
    generator = torch.Generator().manual_seed(seed)
    masks, probs = [], []
    for index in range(n):
        size = (7 + index, 11 - index)
        mask = torch.randint(0, k_true, size, generator=generator).to(torch.uint8)
        mask[torch.rand(size, generator=generator) < ignored] = 255
        masks.append(mask)
        logits = torch.randn(k_predicted, *size, generator=generator)
        if k_predicted >= k_true:  # somewhat better than chance
            logits += 1.2 * F.one_hot(mask.long().clamp(max=k_true - 1), k_predicted).permute(2, 0, 1)
        probs.append(logits.softmax(dim=0))
    return masks, probs


def flat(masks, probs):
    """True and predicted labels of all scored pixels, one array an image."""
    pairs = []
    for mask, prob in zip(masks, probs, strict=True):
        valid = mask != 255
        pairs.append((mask[valid].numpy(), prob.argmax(dim=0)[valid].numpy()))
    return pairs


def run(name, predict, dataset, tmp_path, **options):
    if name == "masks":
        options = {"num_match_images": 0, **options}  # of a handful of images none can be spared
    return REGISTRY.build("evaluator", name, options).evaluate(predict, dataset, RunContext(tmp_path, seed=1))


@pytest.fixture
def score(tmp_path):
    def evaluate(masks, probs, names=None, classes=None, evaluator="masks", **options):
        return run(evaluator, Lookup(probs, names), dataset_of(masks, classes), tmp_path, **options)

    return evaluate


def test_registered_and_light():
    assert not REGISTRY.failures
    assert [entry.component.name for entry in REGISTRY.of_kind("evaluator")] == ["clusters", "masks"]
    code = (
        "import sys, gsegkit_eval, gsegkit_eval.config; print({'torch', 'sklearn', 'scipy', 'numpy'} & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


# ---- masks: numbers ----------------------------------------------------------------------------------------------


def test_by_hand(score):
    masks = [[[1, 1, 0, 0]], [[1, 0, 0, 255]]]
    report = score(masks, one_hot([[[1, 0, 1, 0]], [[1, 0, 0, 1]]], 2), baselines=False)
    m = report.metrics
    assert m["accuracy"] == pytest.approx((0.5 + 1) / 2)
    assert m["accuracy_dataset"] == pytest.approx(5 / 7)
    assert m["iou_foreground"] == pytest.approx((1 / 3 + 1) / 2)
    assert m["iou_foreground_dataset"] == pytest.approx(2 / 4)
    assert m["miou"] == pytest.approx(((1 / 3 + 1) / 2 + (1 / 3 + 1) / 2) / 2)
    assert m["miou_dataset"] == pytest.approx((2 / 4 + 3 / 5) / 2)
    assert m["precision"] == m["recall"] == pytest.approx(0.75)
    assert m["f1"] == m["f_beta"] == m["max_f_beta"] == pytest.approx(0.75)
    assert m["precision_dataset"] == m["recall_dataset"] == m["max_f_beta_dataset"] == pytest.approx(2 / 3)
    assert m["num_images"] == 2
    assert report.per_class["k1"]["iou"] == pytest.approx(0.5)
    assert report.per_class["k1"]["share"] == pytest.approx(3 / 7)
    assert report.per_image["image-0"]["iou_foreground"] == pytest.approx(1 / 3)


def test_f_beta_uses_beta_squared(score):
    masks = [[[1, 1, 1, 0, 0]]]
    report = score(masks, one_hot([[[1, 1, 0, 1, 1]]], 2))
    p, r = 2 / 4, 2 / 3
    assert report.metrics["f_beta"] == pytest.approx(1.3 * p * r / (0.3 * p + r))


@pytest.mark.parametrize("k", [2, 4])
def test_against_scikit_learn(score, k):
    sk = pytest.importorskip("sklearn.metrics")
    masks, probs = random_case(n=4, k_true=k, k_predicted=k)
    m = score(masks, probs, match="index").metrics
    pairs = flat(masks, probs)
    whole = tuple(np.concatenate(side) for side in zip(*pairs, strict=True))

    def mean(function, rows):
        return np.mean([function(*row) for row in rows])

    binary = [(t > 0, p > 0) for t, p in pairs]
    merged = (whole[0] > 0, whole[1] > 0)
    for rows, labels, end in ((binary, pairs, ""), ([merged], [whole], "_dataset")):
        assert m["accuracy" + end] == pytest.approx(mean(sk.accuracy_score, labels))
        assert m["iou_foreground" + end] == pytest.approx(mean(sk.jaccard_score, rows))
        assert m["precision" + end] == pytest.approx(mean(sk.precision_score, rows))
        assert m["recall" + end] == pytest.approx(mean(sk.recall_score, rows))
        assert m["f1" + end] == pytest.approx(mean(sk.f1_score, rows))
        f_beta = mean(lambda t, p: sk.fbeta_score(t, p, beta=math.sqrt(0.3)), rows)
        assert m["f_beta" + end] == pytest.approx(f_beta)
    assert m["miou_dataset"] == pytest.approx(sk.jaccard_score(*whole, average="macro"))
    classes = [sk.jaccard_score(t, p, labels=range(k), average=None) for t, p in pairs]
    assert m["miou"] == pytest.approx(np.mean(classes))


@pytest.mark.parametrize("k", [2, 4])
def test_rand_index_against_scikit_learn(score, k):
    sk = pytest.importorskip("sklearn.metrics")
    masks, probs = random_case(n=5, k_true=k, k_predicted=k)
    report = score(masks, probs, match="index")
    expected = [sk.adjusted_rand_score(t > 0, p > 0) for t, p in flat(masks, probs)]
    assert report.metrics["ari"] == pytest.approx(np.mean(expected))
    assert [row["ari"] for row in report.per_image.values()] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("truth", "found", "ari", "msc"),
    [
        # the found foreground [1, 2] of the true one [1]: IoU 1/2; backgrounds [0, 2, 3] and [0, 3]: 2/3
        ([[0, 1, 0, 0]], [[0, 1, 1, 0]], None, (1 / 2 + 2 / 3) / 2),
        ([[0, 1, 1, 0]], [[1, 0, 0, 1]], 1.0, 1.0),  # the same partition under other names
        ([[1, 1, 1, 1]], [[1, 1, 1, 1]], 1.0, 1.0),  # one segment on both sides
        ([[0, 0, 0, 0]], [[0, 0, 1, 1]], 0.0, 1 / 2),
        ([[0, 0, 1, 1]], [[0, 0, 0, 0]], 0.0, (1 / 2 + 1 / 2) / 2),
    ],
)
def test_segment_scores_by_hand(score, truth, found, ari, msc):
    report = score([truth], one_hot([found], 2), baselines=False, classes=("background", "foreground"))
    assert report.metrics["msc"] == pytest.approx(msc)
    if ari is None:
        sk = pytest.importorskip("sklearn.metrics")
        ari = sk.adjusted_rand_score(truth[0], found[0])
    assert report.metrics["ari"] == pytest.approx(ari)


def test_rand_index_of_a_large_image_does_not_overflow():
    from gsegkit_eval.scores import adjusted_rand

    sides = np.array([[[30_000_000, 1_000_000], [2_000_000, 7_000_000]]])
    assert adjusted_rand(sides)[0] == pytest.approx(adjusted_rand(sides // 1000)[0], abs=1e-4)


@pytest.mark.parametrize("thresholds", [255, 254])
def test_max_f_beta_by_brute_force(score, thresholds):
    masks, probs = random_case(n=3, k_true=2, k_predicted=2)
    for row, k in enumerate((0, 1, 17, 254)):  # probabilities exactly on a threshold
        probs[0][1, 0, row] = k / 255
        probs[0][0, 0, row] = 1 - k / 255
    m = score(masks, probs, thresholds=thresholds).metrics

    def f(tp, fp, fn):
        p = tp / (tp + fp) if tp + fp else 1.0
        r = tp / (tp + fn) if tp + fn else 1.0
        return 1.3 * p * r / (0.3 * p + r) if p + r else 0.0

    means, sums = [], []
    for k in range(255 - thresholds, 255):
        counts = []
        for mask, prob in zip(masks, probs, strict=True):
            found = (1 - prob[0]).double() > k / 255
            truth, valid = mask == 1, mask != 255
            counts.append([int((a & valid).sum()) for a in (found & truth, found & ~truth, ~found & truth)])
        means.append(np.mean([f(*row) for row in counts]))
        sums.append(f(*np.sum(counts, axis=0)))
    assert m["max_f_beta"] == pytest.approx(max(means), abs=1e-9)
    assert m["max_f_beta_dataset"] == pytest.approx(max(sums), abs=1e-9)


def test_empty_masks(score):
    empty, full = [[0, 0, 0, 0]], [[1, 1, 0, 0]]
    m = score([full], one_hot([empty], 2)).metrics  # nothing predicted
    assert (m["precision"], m["recall"], m["f1"], m["iou_foreground"]) == (1, 0, 0, 0)
    report = score([empty], one_hot([full], 2))  # nothing to find
    m = report.metrics
    assert (m["precision"], m["recall"], m["f1"], m["iou_foreground"]) == (0, 1, 0, 0)
    assert "1 of 1 images have no true foreground" in report.notes
    for rule, value, otsu in (("zero", 0, 0), ("one", 1, 1), ("skip", None, None)):
        m = score([empty], one_hot([empty], 2), empty_iou=rule).metrics
        assert (m["precision"], m["recall"], m["f1"], m["accuracy"]) == (1, 1, 1, 1)
        assert m["iou_foreground"] == m["iou_foreground_dataset"] == value
        assert m["baseline_otsu_iou"] == otsu
    m = score([empty, full], one_hot([empty, full], 2), empty_iou="skip").metrics
    alone = score([full], one_hot([full], 2)).metrics
    assert m["iou_foreground"] == 1
    assert m["baseline_otsu_iou"] == alone["baseline_otsu_iou"], "the empty image is left out, not the whole number"


def test_absent_classes_and_ignored_images(score):
    masks = [[[0, 1, 255]], [[255, 255, 255]]]
    report = score(masks, one_hot([[[0, 1, 2]], [[0, 1, 2]]], 4), classes=("a", "b", "c", "d"), match="index")
    assert report.metrics["num_images"] == 1
    assert report.metrics["miou"] == report.metrics["miou_dataset"] == 1
    assert report.per_class["c"]["iou"] is None
    assert report.per_class["d"]["recall"] is None
    wrong = score([[[0, 1]]], one_hot([[[0, 2]]], 4), classes=("a", "b", "c", "d"), match="index")
    assert wrong.metrics["miou"] == pytest.approx(1 / 3)  # b is missed, c is invented, d occurs nowhere
    with pytest.raises(DataError, match="no image has a pixel to score"):
        score([[[255, 255]]], one_hot([[[0, 1]]], 2))


# ---- masks: matching ---------------------------------------------------------------------------------------------


def test_names_match_in_any_order(score):
    masks, _ = random_case(k_true=3)
    answers = one_hot([(mask.long().clamp(max=2) + 1) % 3 for mask in masks], 3)
    report = score(masks, answers, names=("k2", "k0", "k1"))
    assert report.metrics["accuracy"] == report.metrics["max_f_beta"] == 1
    assert report.notes[0] == "classes were matched by name"
    with pytest.raises(ConfigError, match="'x' is not one of the true classes"):
        score(masks, answers, names=("x", "k0", "k1"), match="names")
    with pytest.raises(ConfigError, match="names no classes"):
        score(masks, answers, match="names")


def test_two_predicted_classes_are_foreground_and_background_without_labels(score):
    masks, _ = random_case(k_true=4)
    report = score(masks, one_hot([(mask != 0).long() for mask in masks], 2), names=("bg", "fg"))
    assert report.metrics["iou_foreground"] == report.metrics["miou"] == report.metrics["max_f_beta"] == 1
    assert list(report.per_class) == ["background", "foreground"]
    assert "no label was used" in report.notes[0]
    assert "k1, k2, k3 count as one foreground" in report.notes[0]
    inverted = score(masks, one_hot([(mask == 0).long() for mask in masks], 2))
    assert inverted.metrics["iou_foreground"] == 0


def test_more_clusters_are_matched_greedily_and_the_labels_are_owned_up_to(score):
    masks, _ = random_case(k_true=3)
    columns = [torch.arange(mask.shape[1]).expand(mask.shape) % 2 for mask in masks]
    split = [5 - (2 * mask.long().clamp(max=2) + column) for mask, column in zip(masks, columns, strict=True)]
    report = score(masks, one_hot(split, 6))
    assert report.metrics["miou"] == report.metrics["accuracy"] == report.metrics["max_f_beta"] == 1
    assert "greedily" in report.notes[0]
    assert "used the labels" in report.notes[0]
    assert report.notes[1] == "k0 <- 4, 5; k1 <- 2, 3; k2 <- 0, 1"


def test_the_curve_of_a_found_matching_equals_that_of_a_given_one(score, tmp_path):
    masks, probs = random_case(k_true=2, k_predicted=4)
    found = score(masks, probs, match="greedy")
    path = tmp_path / "classes.yaml"
    targets = {
        int(i): side
        for side, part in enumerate(found.notes[1].split("; "))
        for i in part.split("<- ")[1].split(", ")
        if i != "none"
    }
    path.write_text("".join(f"{cluster}: k{target}\n" for cluster, target in targets.items()))
    given = score(masks, probs, match=str(path))
    assert found.metrics == given.metrics
    assert given.notes[0] == "classes were matched by the file 'classes.yaml'"


class Strips(Lookup):
    """Gives its answers three rows at a time, and cannot be asked for a whole one."""

    def __init__(self, answers, classes=None, missing=0):
        super().__init__(answers, classes)
        self.missing = missing

    def __call__(self, pixels):
        raise AssertionError("the whole photograph was asked for")

    def strips(self, pixels):
        answer = self.answers[int(pixels[0, 0, 0, 0])][None]
        yield from answer[:, :, : answer.shape[2] - self.missing].split(3, dim=2)


@pytest.mark.parametrize(
    ("evaluator", "options"),
    [
        ("masks", {"match": "index"}),
        ("masks", {"num_match_images": 2}),
        ("masks", {"num_match_images": 0}),
        ("clusters", {}),
    ],
)
def test_strips_score_as_whole_photographs_do(tmp_path, evaluator, options):
    masks, probs = random_case()
    built = REGISTRY.build("evaluator", evaluator, options)
    whole, strips = (
        built.evaluate(kind(probs), dataset_of(masks), RunContext(tmp_path)).to_json() for kind in (Lookup, Strips)
    )
    assert strips == whole


def test_strips_that_leave_rows_out_break_the_contract(tmp_path):
    masks, probs = random_case()
    with pytest.raises(ContractError, match="rows of 'image-0'"):
        run("masks", Strips(probs, missing=1), dataset_of(masks), tmp_path)


def test_predictor_runs_once_per_image_unless_the_matching_is_found_in_the_data(tmp_path):
    masks, probs = random_case(n=3)
    for match, calls in (("index", 3), ("greedy", 6)):
        predict = Lookup(probs, ("a", "b", "c"))
        run("masks", predict, dataset_of(masks), tmp_path, match=match)
        assert predict.calls == calls


def test_matching_files(score, tmp_path):
    masks, probs = random_case(k_true=2, k_predicted=3)
    path = tmp_path / "classes.yaml"
    for text, words in [
        ("a: k0\nb: k1\n", "does not map the predicted class 'c'"),
        ("a: k0\nb: k1\nc: k9\n", "maps 'c' to 'k9', which is not one of the true classes"),
        ("a: k0\nb: k1\nz: k1\n", "names the predicted class 'z', which does not exist"),
    ]:
        path.write_text(text)
        with pytest.raises(ConfigError, match=words):
            score(masks, probs, names=("a", "b", "c"), match=str(path))
    path.write_text("{a: 0, b: 1, c: k1}")
    assert score(masks, probs, names=("a", "b", "c"), match=str(path)).metrics["num_images"] == 5
    with pytest.raises(ConfigError, match="cannot read"):
        score(masks, probs, match=str(tmp_path / "nothing.yaml"))


NAMES = """
extractor: "0123456789abcdef"
cut: 4
classes:
- {name: k1, clusters: [7]}
- {name: k0, clusters: [3, 5]}
"""


def test_class_names_of_clusters(score, tmp_path):
    masks, _ = random_case(k_true=2)
    path = tmp_path / "classes.yaml"
    path.write_text(NAMES + "ignore: [9]\n")
    # class 0 of the truth is predicted as cluster 3 or 5, class 1 as cluster 7; every picture's first row as cluster 9
    clusters = ("cluster-5", "cluster-7", "cluster-9", "cluster-3")
    answers = []
    for mask in masks:
        labels = torch.where(mask == 1, 1, torch.arange(mask.shape[1]).expand(mask.shape) % 2 * 3)
        labels[0] = 2
        answers.append(labels)
    report = score(masks, one_hot(answers, 4), names=clusters, match=str(path))
    assert report.notes[0] == "classes were matched by the class names in 'classes.yaml'"
    assert report.notes[1] == "k0 <- cluster-5, cluster-3; k1 <- cluster-7; unmatched <- cluster-9"
    wrong = sum(int((mask[0] != 255).sum()) for mask in masks)
    assert report.metrics["accuracy_dataset"] == pytest.approx(1 - wrong / sum(int((m != 255).sum()) for m in masks))
    assert score(masks, one_hot([(m == 0).long() for m in masks], 2), names=("k1", "k0"), match=str(path)).metrics[
        "accuracy"
    ] == pytest.approx(1), "a predictor with the file's own names"
    for names, words in [
        (("cluster-5", "cluster-7", "cluster-9", "cluster-8"), "cluster 3, which does not exist"),
        ((*clusters, "cluster-1"), "omit cluster 1"),
    ]:
        with pytest.raises(ConfigError, match=words):
            score(masks, one_hot(answers, len(names)), names=names, match=str(path))
    path.write_text(NAMES.replace("k1", "leaf") + "ignore: [9]\n")
    with pytest.raises(ConfigError, match="names the class 'leaf', which is not one of the true classes"):
        score(masks, one_hot(answers, 4), names=clusters, match=str(path))


def test_images_that_named_the_clusters_are_not_scored(score, tmp_path):
    masks, _ = random_case(k_true=2)
    path = tmp_path / "classes.yaml"
    path.write_text(NAMES + "labels_used: [image-0, image-3]\n")
    answers = one_hot([mask.long().clamp(max=1) for mask in masks], 3)
    report = score(masks, answers, names=("cluster-3", "cluster-7", "cluster-5"), match=str(path))
    assert set(report.per_image) == {"image-1", "image-2", "image-4"}
    assert report.metrics["num_images"] == 3
    assert any("2 of this data set's 5 images were left out" in note for note in report.notes)


@pytest.mark.parametrize("match", ["greedy", "hungarian", "auto"])
def test_matching_on_a_few_images(match, tmp_path):
    masks, probs = random_case(n=8, k_true=3, k_predicted=4)
    predict, data = Lookup(probs), dataset_of(masks)
    report = run("masks", predict, data, tmp_path, match=match, num_match_images=3)
    assert predict.calls == 1 + 8, "one to learn the number of classes, then each image once"
    assert report.metrics["num_images"] == 5
    used = [i for i in range(8) if f"image-{i}" not in report.per_image]
    few = run("masks", Lookup([probs[i] for i in used]), dataset_of([masks[i] for i in used]), tmp_path,
              match="greedy" if match == "auto" else match)  # fmt: skip
    assert report.notes[1] == few.notes[1], "the matching is that of the three images alone"
    assert "used the labels of 3 images drawn by seed 1, which were left out of the score" in report.notes[0]
    path = tmp_path / "m.yaml"
    rows = [part.split(" <- ") for part in report.notes[1].split("; ")]
    path.write_text("".join(f"{c}: {name}\n" for name, cs in rows for c in cs.split(", ") if c != "none"))
    rest = [i for i in range(8) if i not in used]
    if "unmatched" not in path.read_text():
        given = run("masks", Lookup([probs[i] for i in rest]), dataset_of([masks[i] for i in rest]), tmp_path, match=str(path))  # fmt: skip
        assert given.metrics == report.metrics


def test_matching_leaves_20_images_out_unless_told_otherwise(tmp_path):
    masks, probs = (rows * 9 for rows in random_case(n=5, k_true=3, k_predicted=4))
    evaluator = REGISTRY.build("evaluator", "masks", {"match": "greedy"})
    report = evaluator.evaluate(Lookup(probs), dataset_of(masks), RunContext(tmp_path, seed=1))
    assert report.metrics["num_images"] == 25
    assert "used the labels of 20 images drawn by seed 1, which were left out of the score" in report.notes[0]
    for all_of_them in (0, None):
        report = run("masks", Lookup(probs), dataset_of(masks), tmp_path, match="greedy", num_match_images=all_of_them)
        assert report.metrics["num_images"] == 45
        assert "the very images that are scored, as in the KLiSH paper" in report.notes[0]


def test_matching_on_a_few_images_that_cannot_be(score, tmp_path):
    masks, probs = random_case(k_true=3, k_predicted=4)
    half = score(masks, probs, match="greedy", num_match_images=20)
    assert "used the labels of 2 images" in half.notes[0], "at most half of the five"
    assert half.metrics["num_images"] == 3
    alone = score(masks[:1], probs[:1], match="greedy", num_match_images=20)
    assert "the very images that are scored" in alone.notes[0], "one image cannot be divided"
    assert score(*random_case(), match="index", num_match_images=2).metrics["num_images"] == 5
    named = score(masks, probs[:5], names=("k0", "k1", "k2", "k9"), match="greedy", num_match_images=1)
    assert named.metrics["num_images"] == 4
    same = score(*random_case(), names=("k0", "k1", "k2"), num_match_images=2)
    assert same.metrics["num_images"] == 5, "names need no labels, so nothing is left out"
    ignored = [torch.full_like(mask, 255) for mask in masks]
    with pytest.raises(DataError, match="no image used for matching has a labelled pixel"):
        score(ignored, probs, classes=("k0", "k1", "k2"), match="greedy", num_match_images=2)


def test_rules_that_do_not_fit(score):
    masks, probs = random_case(k_true=2, k_predicted=3)
    with pytest.raises(ConfigError, match="3 predicted classes, but only 2 true ones"):
        score(masks, probs, match="index")
    with pytest.raises(ConfigError, match="must be one of auto, names"):
        score(masks, probs, match="best")


def test_unmatched_classes_are_wrong_and_foreground(score):
    masks = [[[0, 0, 0, 1, 1, 1]]]
    report = score(masks, one_hot([[[0, 0, 0, 1, 1, 2]]], 3), match="hungarian")
    assert report.metrics["accuracy"] == pytest.approx(5 / 6)
    assert report.metrics["iou_foreground"] == report.metrics["max_f_beta"] == 1
    assert report.notes[1].endswith("unmatched <- 2")


# ---- masks: contracts --------------------------------------------------------------------------------------------


def test_report_is_json_and_every_metric_is_defined(score):
    masks, probs = random_case()
    for evaluator in ("masks", "clusters"):
        report = score(masks, probs, evaluator=evaluator)
        assert set(report.definitions) == set(report.metrics)
        assert next(iter(report.metrics)) in ("iou_foreground", "ami")
        json.dumps(report.to_json())


def test_wrong_predictors(tmp_path):
    masks, probs = random_case(n=2)
    data = dataset_of(masks)
    with pytest.raises(ContractError, match="probs must be"):
        run("masks", lambda pixels: probs[0][None, :, :-1], data, tmp_path)
    with pytest.raises(ContractError, match="NaN"):
        run("masks", Lookup([prob * math.nan for prob in probs]), data, tmp_path)
    with pytest.raises(DataError, match="empty"):
        run("masks", Lookup([]), Rows([], ("a", "b")), tmp_path)


# ---- baselines ---------------------------------------------------------------------------------------------------


def test_centre_prior_is_the_mask_of_the_majority(score):
    square = torch.zeros(64, 64)
    square[16:48, 16:48] = 1
    corner = torch.zeros(64, 64)
    corner[:4, :4] = 1
    masks = [square, square, corner]
    m = score(masks, one_hot(masks, 2)).metrics
    assert m["baseline_centre_prior_iou"] == pytest.approx(2 / 3, abs=0.01)
    assert m["baseline_otsu_iou"] == 0
    assert "baseline_otsu_iou" not in score(masks, one_hot(masks, 2), baselines=False).metrics


@pytest.mark.parametrize(
    ("name", "centre", "otsu"),
    [("wbc", 0.76, 0.82), ("lpc_parts_test", 0.40, 0.31), ("coffee_leaf", 0.79, 0.94), ("pets64", 0.46, 0.41)],
)
def test_baselines_of_the_benchmarks(name, centre, otsu, tmp_path):
    from gsegkit.dataset import Subset
    from gsegkit.images import list_images, read_image, read_mask

    root = benchmark_data(name)

    class Pairs(Rows):
        def __getitem__(self, index):
            path = self.samples[index]
            return Sample(path.stem, read_image(path), read_mask(root / "masks" / path.name))

    data = Pairs(list_images(root / "images"), tuple(f"k{i}" for i in range(8)))
    data = Subset(data, range(0, len(data), -(-len(data) // 200)))

    def background(pixels):
        return torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, *pixels.shape[-2:])

    m = run("masks", background, data, tmp_path).metrics
    assert m["baseline_centre_prior_iou"] == pytest.approx(centre, abs=0.03)
    assert m["baseline_otsu_iou"] == pytest.approx(otsu, abs=0.03)


# ---- clusters ----------------------------------------------------------------------------------------------------


def test_clusters_against_scikit_learn(score):
    sk = pytest.importorskip("sklearn.metrics")
    masks, probs = random_case(k_true=3, k_predicted=5)
    m = score(masks, probs, evaluator="clusters").metrics
    truth, found = (np.concatenate(side) for side in zip(*flat(masks, probs), strict=True))
    assert m["ami"] == pytest.approx(sk.adjusted_mutual_info_score(truth, found))
    assert m["ari"] == pytest.approx(sk.adjusted_rand_score(truth, found))
    assert m["nmi"] == pytest.approx(sk.normalized_mutual_info_score(truth, found))
    assert m["num_pixels"] == len(truth)
    pairs = flat(masks, probs)
    tables = np.stack([sk.confusion_matrix(*pair, labels=range(5))[:3] for pair in pairs])
    targets = np.array(greedy(tables).targets)
    ious = [sk.jaccard_score(t, targets[p], labels=range(3), average=None) for t, p in pairs]
    assert m["miou_greedy"] == pytest.approx(np.mean(ious))
    whole = sk.jaccard_score(truth, targets[found], average=None)
    assert m["accuracy_greedy"] == pytest.approx(sk.accuracy_score(truth, targets[found]))
    assert m["miou_hungarian"] <= whole.mean() + 1e-9


def test_clusters_of_a_perfect_partition_with_other_names(score):
    masks, _ = random_case(k_true=3)
    m = score(masks, one_hot([(mask.long().clamp(max=2) + 1) % 3 for mask in masks], 3), evaluator="clusters").metrics
    for name in ("ami", "ari", "nmi", "miou_greedy", "miou_hungarian", "accuracy_greedy"):
        assert m[name] == pytest.approx(1)


def test_clusters_too_many_cost_hungarian_but_not_greedy(score):
    masks = [[[0, 0, 0, 1, 1, 1]]]
    m = score(masks, one_hot([[[0, 0, 0, 1, 1, 2]]], 3), evaluator="clusters").metrics
    assert m["miou_greedy"] == 1
    assert m["miou_hungarian"] == pytest.approx((1 + 2 / 3) / 2)


def test_clusters_sample_is_bounded_and_seeded(tmp_path):
    generator = torch.Generator().manual_seed(0)
    masks = [torch.randint(0, 2, (64, 64), generator=generator) for _ in range(3)]
    probs = [torch.rand(4, 64, 64, generator=generator) for _ in range(3)]
    evaluator = REGISTRY.build("evaluator", "clusters", {"max_pixels": 1000})

    def once(seed):
        return evaluator.evaluate(Lookup(probs), dataset_of(masks), RunContext(tmp_path, seed=seed)).metrics

    assert once(1)["num_pixels"] == 999
    assert once(1) == once(1)
    assert once(1)["ami"] != once(2)["ami"]
    assert once(1)["miou_greedy"] == once(2)["miou_greedy"]


def test_smoke_scores_a_few_images(tmp_path):
    masks, probs = random_case(n=5)
    many = dataset_of([masks[0]] * 20, ("k0", "k1", "k2"))
    report = REGISTRY.build("evaluator", "masks").evaluate(
        lambda pixels: probs[0][None], many, RunContext(tmp_path, smoke=True)
    )
    assert report.metrics["num_images"] == 8
