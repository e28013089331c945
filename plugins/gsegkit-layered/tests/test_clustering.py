"""NMI by hand and against scikit-learn."""

import pytest
import torch
from gsegkit_layered.clustering import normalised_mutual_information as nmi

from gsegkit.errors import DataError


def test_by_hand():
    truth = torch.tensor([0, 0, 1, 1])
    assert nmi(torch.tensor([5, 5, 2, 2]), truth) == pytest.approx(1.0)
    assert nmi(torch.tensor([0, 1, 0, 1]), truth) == pytest.approx(0.0)
    # four clusters of one: I = 1 bit, entropies 2 and 1
    assert nmi(torch.arange(4), truth) == pytest.approx(1 / 1.5)
    assert nmi(torch.zeros(4, dtype=torch.long), torch.ones(4, dtype=torch.long)) == 1.0


def test_against_scikit_learn():
    sk = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 4, (200,), generator=generator)
    found = torch.where(
        torch.rand(200, generator=generator) < 0.6, truth, torch.randint(0, 9, (200,), generator=generator)
    )
    assert nmi(found, truth) == pytest.approx(sk.normalized_mutual_info_score(truth.numpy(), found.numpy()))


def test_sides_of_different_length_are_refused():
    with pytest.raises(DataError, match="cannot be compared"):
        nmi(torch.zeros(3, dtype=torch.long), torch.zeros(4, dtype=torch.long))
