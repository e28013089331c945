import pytest
import torch

from gsegkit.seeds import PURPOSES, child_seed, integers, isolated_rng, normals, sample_seeds, uniforms

KNOWN_SEED = 143320700730474496
KNOWN_NORMALS = [-1.279028, -1.019109, -1.797565]
KNOWN_CHILD = 657490497891668870
KNOWN_PURPOSES = {
    "fit": 109698227858571264, "dataset": 198400632644698112, "validation": 218771172903354368,
    "preview": 292938575136161792, "test": 363381029542559744, "annotate": 475559871597510656,
}  # fmt: skip


@pytest.mark.parametrize("draw", [lambda s: normals(s, (7,)), lambda s: uniforms(s, (2, 3)), lambda s: integers(s, 10)])
def test_a_row_depends_on_its_seed_alone(draw):
    seeds = sample_seeds(3, "fit", 0, 11)
    whole = draw(seeds)
    order = torch.randperm(11)
    assert torch.equal(draw(seeds[order]), whole[order])
    assert torch.equal(torch.cat([draw(part) for part in seeds.split(3)]), whole)
    assert torch.equal(draw(seeds[4:5])[0], whole[4])
    assert len(draw(seeds[:0])) == 0


def test_streams_and_run_seeds_are_independent():
    seeds = sample_seeds(0, "fit", 0, 2000)
    a, b = normals(seeds, (4,), "a").flatten(), normals(seeds, (4,), "b").flatten()
    c = normals(sample_seeds(1, "fit", 0, 2000), (4,), "a").flatten()
    for other in (b, c):
        assert abs(torch.corrcoef(torch.stack([a, other]))[0, 1]) < 0.05
    assert abs(a.mean()) < 0.05
    assert abs(a.std() - 1) < 0.05


def test_purposes_have_disjoint_seeds():
    ranges = [set(sample_seeds(5, purpose, 0, 1000).tolist()) for purpose in PURPOSES]
    assert sum(len(r) for r in ranges) == len(set.union(*ranges))


def test_later_indices_continue_earlier_ones():
    assert torch.equal(sample_seeds(0, "dataset", 0, 10)[4:], sample_seeds(0, "dataset", 4, 6))


def test_known_values_never_change():
    """A stored run is replayed from its seeds, so these numbers are part of the file format."""
    seeds = sample_seeds(0, "fit", 0, 2)
    assert seeds.tolist() == [KNOWN_SEED, KNOWN_SEED + 1]
    assert torch.allclose(normals(seeds, (3,))[0], torch.tensor(KNOWN_NORMALS))
    assert child_seed(0, "a", 1) == KNOWN_CHILD
    found = {purpose: int(sample_seeds(7, purpose, 0, 1)) for purpose in PURPOSES}
    assert found == KNOWN_PURPOSES, "a new purpose is appended: those before keep their seeds"


def test_bad_arguments():
    with pytest.raises(ValueError, match="purpose"):
        sample_seeds(0, "other", 0, 1)
    for start, count in ((-1, 1), (2**32 - 1, 2)):
        with pytest.raises(ValueError, match="indices"):
            sample_seeds(0, "fit", start, count)
    assert len(sample_seeds(0, "fit", 2**32 - 1, 1)) == 1  # the last one


def test_isolated_rng_restores_the_state():
    before = torch.get_rng_state()
    with isolated_rng(1):
        first = torch.rand(3)
    assert torch.equal(before, torch.get_rng_state())
    with isolated_rng(1):
        assert torch.equal(first, torch.rand(3))
