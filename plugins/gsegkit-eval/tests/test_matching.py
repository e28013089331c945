import itertools

import numpy as np
import pytest
from gsegkit_eval.matching import decide, greedy, hungarian


def plain_miou(tables, targets):
    """The paper's score, written out: IoU per image and class, mean over images with a union, plain mean."""
    n, num_true, _ = tables.shape
    total = 0.0
    for true in range(num_true):
        members = [j for j, target in enumerate(targets) if target == true]
        ious = []
        for i in range(n):
            inside = sum(tables[i, true, j] for j in members)
            union = tables[i, true].sum() + sum(tables[i, :, j].sum() for j in members) - inside
            if union > 0:
                ious.append(inside / union)
        total += sum(ious) / max(len(ious), 1)
    return total / num_true


def brute_greedy(tables):
    """Greedy maximum matching by trying every remaining pair anew."""
    _, num_true, num_predicted = tables.shape
    targets = [-1] * num_predicted
    for _ in range(num_predicted):
        options = []
        for true, cluster in itertools.product(range(num_true), range(num_predicted)):
            if targets[cluster] == -1:
                trial = [*targets]
                trial[cluster] = true
                options.append((plain_miou(tables, trial), -true, -cluster))
        _, true, cluster = max(options)
        targets[-cluster] = -true
    return targets


@pytest.mark.parametrize("seed", range(6))
def test_greedy_is_the_papers_algorithm(seed):
    generator = np.random.default_rng(seed)
    tables = generator.integers(0, 30, (4, 3, 6)) * (generator.random((4, 3, 6)) < 0.6)
    found = greedy(tables)
    assert list(found.targets) == brute_greedy(tables)
    assert -1 not in found.targets


def test_an_object_of_a_single_pixel_counts():
    tables = np.array([[[1, 1], [1, 2]], [[1, 0], [2, 0]]])
    assert list(greedy(tables).targets) == brute_greedy(tables) == [1, 1]


@pytest.mark.parametrize("shape", [(3, 5), (4, 2), (3, 3)])
def test_hungarian_is_the_best_one_to_one_matching(shape):
    tables = np.random.default_rng(0).integers(0, 50, (3, *shape))
    total = tables.sum(axis=0)

    def value(targets):
        score = 0.0
        for cluster, true in enumerate(targets):
            if true >= 0:
                inside = total[true, cluster]
                score += inside / (total[true].sum() + total[:, cluster].sum() - inside)
        return score

    best = 0.0
    for rows in itertools.permutations(range(shape[0]), min(shape)):
        for columns in itertools.permutations(range(shape[1]), min(shape)):
            targets = [-1] * shape[1]
            for row, column in zip(rows, columns, strict=True):
                targets[column] = row
            best = max(best, value(targets))
    found = hungarian(tables)
    assert value(found.targets) == pytest.approx(best)
    assert found.targets.count(-1) == max(0, shape[1] - shape[0])


def test_auto_rule():
    assert decide("auto", 2, ("c", "a"), ("a", "b", "c")).targets == (2, 0), "given names count"
    assert decide("auto", 3, ("b", "a", "c"), ("a", "b", "c")).targets == (1, 0, 2)
    assert decide("auto", 2, ("x", "y"), ("a", "b", "c")).merged
    assert not decide("auto", 2, None, ("a", "b")).merged
    assert decide("auto", 3, ("x", "y", "z"), ("a", "b", "c")) is None
