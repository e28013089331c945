"""What is drawn: classes, their probabilities, truncation; and the network behind the public interface."""

import pytest
import torch
from gsegkit_resgan.config import Arch, NewClassBigResNet, NewClassPlain, NewClassResNet, NewResNet, resnet_blocks
from gsegkit_resgan.generator import ResidualGenerator
from gsegkit_resgan.network import statistics_at
from gsegkit_resgan.readers import sample
from gsegkit_resgan.readers.folding import Tensors
from pydantic import ValidationError

from gsegkit.errors import ConfigError, ContractError
from gsegkit.parts import load_part, save_part

TINY = {"resolution": 32, "channels": 2, "z_dim": 4}
SEEDS = torch.arange(400)


class Generator(ResidualGenerator):
    name = "tiny"


def make(config=NewClassResNet, **options):
    return Generator(config(**TINY, **options))


@pytest.mark.parametrize("classes", [[2, 7], "2,7", "7, 2, 2"])
def test_a_sub_set_of_the_classes_is_drawn(classes):
    assert set(make(classes=classes).labels(SEEDS).tolist()) == {2, 7}


def test_one_class_and_a_class_by_name(tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("\n".join(["cat", "dog", "golden retriever", *map(str, range(7))]))
    for classes in (2, "golden retriever", ["golden retriever", 2]):
        options = {"classes": classes, "class_names": str(names)}
        assert set(make(**options).labels(SEEDS).tolist()) == {2}
    resolved = NewClassResNet(**TINY, classes="dog", class_names=str(names)).resolved(lambda kind: frozenset())
    assert (resolved.classes, resolved.class_names) == ((1,), "")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"classes": [10]}, "classes 0 to 9"),
        ({"classes": [-1]}, "classes 0 to 9"),
        ({"classes": "dog"}, "is a name"),
        ({"classes": "dog", "class_names": "/no/such/file"}, "cannot read the class names"),
        ({"classes": "dog", "class_names": __file__}, "is not in the class names"),
    ],
)
def test_classes_that_are_not_there(options, words):
    with pytest.raises(ConfigError, match=words) as caught:
        make(**options)
    assert caught.value.hint


def test_classes_are_drawn_by_their_probabilities_and_as_often_in_a_sub_set():
    generator = make(NewClassPlain, num_classes=3)
    generator.restore({**generator.facts(), "prior": [0.5, 0, 0.5]})
    drawn = generator.labels(SEEDS)
    assert set(drawn.tolist()) == {0, 2}
    assert 160 < int((drawn == 0).sum()) < 240
    assert torch.equal(generator.labels(SEEDS[5:7]), drawn[5:7])
    only = make(NewClassPlain, num_classes=3, classes=[1, 2])
    only.restore({**only.facts(), "prior": [0.5, 0, 0.5]})
    assert set(only.labels(SEEDS).tolist()) == {2}
    nobody = make(NewClassPlain, num_classes=3, classes=[1])
    with pytest.raises(ConfigError, match="no image is of the classes"):
        nobody.restore({**nobody.facts(), "prior": [0.5, 0, 0.5]})


@pytest.mark.parametrize("prior", [[1.0], [0.5, 0.6, 0], [float("nan"), 0.5, 0.5], [-1, 1, 1], ["a", 0, 1]])
def test_stored_probabilities_are_checked(prior):
    generator = make(NewClassPlain, num_classes=3)
    with pytest.raises(ValueError):
        generator.restore({**generator.facts(), "prior": prior})


def test_the_probabilities_are_stored_with_the_part(tmp_path):
    generator = make(NewClassPlain, num_classes=3)
    generator.restore({**generator.facts(), "prior": [0.25, 0.25, 0.5]})
    save_part(generator, tmp_path, "generator", "tiny")
    other = make(NewClassPlain, num_classes=3)
    load_part(other, tmp_path)
    assert torch.equal(other.labels(SEEDS), generator.labels(SEEDS))


def test_truncated_noise_is_cut_and_scaled():
    plain, cut = make().latents(SEEDS), make(truncation=0.5).latents(SEEDS)
    assert float(plain.abs().max()) > 2.5
    assert float(cut.abs().max()) <= 1
    assert 0.4 < float(cut.std()) < 0.48  # of a normal cut at 2 deviations: 0.88, halved
    row = make(truncation=0.5).latents(SEEDS[3:4])
    assert torch.equal(row[0], cut[3])


def test_the_class_and_every_part_of_the_noise_matter():
    generator = make(NewClassBigResNet, num_classes=3, class_dim=5, attention=8)
    latents, labels = generator.latents(SEEDS[:1]), torch.tensor([1])
    base = generator.synthesize(latents, labels).images
    assert not torch.allclose(base, generator.synthesize(latents, labels + 1).images, atol=1e-3)
    for part in range(4):
        other = latents.clone()
        other[:, part * 4 : part * 4 + 4] += 1
        assert not torch.allclose(base, generator.synthesize(other, labels).images, atol=1e-3), part


@pytest.mark.parametrize(
    "labels", [None, torch.tensor([10]), torch.tensor([-1]), torch.tensor([0.0]), torch.tensor([0, 1])]
)
def test_labels_are_checked(labels):
    generator = make()
    with pytest.raises(ContractError, match="labels"):
        generator.synthesize(generator.latents(SEEDS[:1]), labels)


def test_latents_are_checked():
    with pytest.raises(ContractError, match="latents"):
        make().synthesize(torch.zeros(1, 5), torch.tensor([0]))


def test_statistics_of_a_truncation():
    """The reference's rounding errors and swapped weights, and the correct interpolation."""
    assert statistics_at(1.0, 51, False) == statistics_at(1.0, 51, True) == (50, 0.0)
    assert statistics_at(0.14, 51, False) == (7, 0.0)
    index, share = statistics_at(0.14, 51, True)
    assert (index, round(share, 6)) == (7, 1.0)  # the set of 0.16
    assert statistics_at(0.425, 51, False) == (21, 0.25)


def test_attention_is_the_plain_formula():
    from gsegkit_resgan.network import Attention

    torch.manual_seed(0)
    layer, x = Attention(16).double(), torch.randn(2, 16, 8, 8, dtype=torch.float64)
    query, key, value = (f(x) for f in (layer.theta, layer.phi, layer.g))
    pooled = [torch.nn.functional.max_pool2d(t, 2).flatten(2) for t in (key, value)]
    weights = torch.einsum("nci,ncj->nij", query.flatten(2), pooled[0]).softmax(dim=-1)
    expected = x + layer.o(torch.einsum("nij,ncj->nci", weights, pooled[1]).view(2, 8, 8, 8))
    assert torch.allclose(layer(x), expected, atol=1e-10)


@pytest.mark.parametrize(
    "changes",
    [
        {"blocks": [{"inputs": 4, "outputs": 3}, {"inputs": 4, "outputs": 4}]},
        {"blocks": resnet_blocks((1,) * 12, 2, 0)},
        {"chunk": 2},
        {"first": "chunk"},
        {"norm": "table"},
        {"num_classes": 3},
        {"norm": "none"},
        {"block": "plain"},
        {"norm": "class"},
    ],
    ids=str,
)
def test_a_shape_that_is_none_is_refused(changes):
    good = {"block": "resnet", "norm": "affine", "z_dim": 6, "blocks": resnet_blocks((4, 4, 4, 4), 2, 0)}
    Arch(**good)
    with pytest.raises(ValidationError):
        Arch(**{**good, **changes})


def test_options_of_a_new_network():
    with pytest.raises(ValidationError, match="attention at 64 px"):
        NewResNet(resolution=32, attention=64)
    assert [name for name, *_ in make(NewResNet, attention=16).arch.features()] == [
        "block0",
        "block1",
        "attn",
        "block2",
    ]
    assert [f[0] for f in NewClassPlain(**TINY).new_arch().features()] == ["res0", "res1", "res2", "res3"]


def test_half_precision_files_are_read_in_single_precision():
    table = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in sample.studiogan().items()
    }
    assert Tensors(table).take("linear0.weight", 2).dtype == torch.float32


def test_a_normalisation_in_training_uses_the_batch_and_remembers_it():
    from gsegkit_resgan.network import Condition, Norm

    torch.manual_seed(0)
    norm, x = Norm(3, 1e-5).train(), torch.randn(8, 3, 6, 6) * 4 + 7
    plain = Condition(None, None, (0, 0.0), False)
    out = norm(x, plain)
    assert torch.allclose(out.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(out.std(dim=(0, 2, 3), correction=0), torch.ones(3), atol=1e-4)
    for _ in range(100):
        norm(x, plain)
    assert torch.allclose(norm.eval()(x, plain), out, atol=1e-3)
