"""Networks and losses against the published numbers: sizes, initial weights, LabelMix, class weights."""

import pytest
import torch
from gsegkit_spade.discriminators import Discriminators, SegmentingDiscriminator
from gsegkit_spade.encoder import Encoder
from gsegkit_spade.layers import GAIN, baked, conv
from gsegkit_spade.masks import as_channels
from gsegkit_spade.objectives import (
    MAX_CLASS_WEIGHT,
    PatchObjective,
    SegmentingObjective,
    balanced,
    class_weights,
    mixing,
)
from gsegkit_spade.spatial import SpatialArch, SpatialNetwork, edges, published_plan, short_plan

from gsegkit.types import IGNORE


def arch(num_classes=2, size=(16, 24), latent_dim=3, painter="spade", plan=None, **more):
    plan = plan or short_plan(size, 4, 8)
    given = {
        "start": "latent", "noise": painter == "oasis", "hidden": 5, "channels": plan.channels, "doubled": plan.doubled,
    }  # fmt: skip
    return SpatialArch(num_classes=num_classes, size=size, latent_dim=latent_dim, **{**given, **more})


def millions(module):
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


@pytest.mark.parametrize(
    ("painter", "size", "labels", "width", "latent_dim", "start", "wanted"),
    [
        ("spade", 64, 8, 64, 256, "latent", 93.2),
        ("spade", 256, 8, 64, 256, "latent", 109.0),
        ("spade", 512, 26, 64, 256, "latent", 159.9),
        ("spade", 256, 151, 64, 256, "labels", 96.5),
        ("spade", 128, 8, 32, 256, "latent", 31.6),
        ("spade", 128, 8, 16, 256, "latent", 11.7),
        ("oasis", 256, 8, 64, 64, "labels", 70.4),
        ("oasis", 256, 151, 64, 64, "labels", 74.3),
    ],
)
def test_published_networks_have_the_published_sizes(painter, size, labels, width, latent_dim, start, wanted):
    plan = published_plan(painter, width, 1024)
    shape = arch(labels, (size, size), latent_dim, painter, plan, start=start, hidden=128, unknown="none")
    with torch.device("meta"):
        assert millions(SpatialNetwork(shape, spectral=False)) == pytest.approx(wanted, abs=0.06)
    assert shape.coarsest == (size // 32, size // 32)


def test_published_discriminators_and_encoder_have_the_published_sizes(monkeypatch):
    monkeypatch.setattr("gsegkit_spade.layers.spectral_norm", lambda module: module)  # needs data, and has no weights
    with torch.device("meta"):
        assert millions(Discriminators(7, 64, 4)) == pytest.approx(5.5, abs=0.06)
        assert millions(SegmentingDiscriminator(151, (256, 256), 128, 512)) == pytest.approx(22.3, abs=0.06)
        assert millions(SegmentingDiscriminator(8, (256, 256), 128, 512)) == pytest.approx(22.2, abs=0.06)
        assert millions(Encoder((256, 256), 256, 64, 0.05)) == pytest.approx(10.5, abs=0.06)


def test_score_maps_of_the_patch_discriminators_have_the_published_sizes():
    found = Discriminators(7, 2, 4)(torch.zeros(1, 8, 64, 64), torch.zeros(1, 3, 64, 64))
    assert [tuple(maps[-1].shape[2:]) for maps in found] == [(11, 11), (7, 7)]
    assert [len(maps) for maps in found] == [5, 5]


def test_initial_weights_and_the_grey_first_picture():
    torch.manual_seed(0)
    assert float(conv(128, 128, 3, gain=GAIN).weight.detach().std()) == pytest.approx(5.9e-4, rel=0.01)
    labels, plan = as_channels(torch.randint(0, 2, (2, 16, 24)).to(torch.uint8), 2), short_plan((16, 24), 64, 128)
    for more in ({"start": "latent"}, {"painter": "oasis", "start": "labels"}, {"painter": "oasis", "start": "both"}):
        network = SpatialNetwork(arch(plan=plan, latent_dim=64, **{"hidden": 128, **more}), spectral=True).eval()
        picture = network(labels, torch.randn(2, 64)).detach()
        assert 0 < float(picture.std()) < float(picture.abs().max()) < 0.01
        assert all(m.bias is None or not m.bias.any() for m in network.modules() if hasattr(m, "bias"))


@pytest.mark.parametrize("size", [(33, 47), (5, 6), (16, 16)])
def test_any_size_is_painted_and_segmented(size):
    labels = as_channels(torch.zeros(1, *size, dtype=torch.uint8), 2)
    network = SpatialNetwork(arch(size=size), spectral=False).eval()
    assert tuple(network(labels, torch.zeros(1, 3)).shape) == (1, 3, *size)
    judge = SegmentingDiscriminator(2, size, 4, 8)
    assert tuple(judge(torch.zeros(1, 3, *size)).shape) == (1, 3, *size)


def test_a_baked_network_paints_the_same():
    torch.manual_seed(0)
    labels, z = as_channels(torch.randint(0, 2, (2, 16, 24)).to(torch.uint8), 2), torch.randn(2, 3)
    network = SpatialNetwork(arch(painter="oasis", start="both"), spectral=True)
    network(labels, z)
    before = network.eval()(labels, z)
    plain = SpatialNetwork(network.arch, spectral=False).eval()
    plain.load_state_dict(baked(network).state_dict())
    assert torch.equal(plain(labels, z), before)


def test_a_region_is_painted_by_its_own_noise():
    torch.manual_seed(0)
    mask = torch.zeros(1, 32, 32, dtype=torch.uint8)
    mask[:, 20:] = 1
    network = SpatialNetwork(arch(size=(32, 32), painter="oasis", start="both"), spectral=False).eval()
    labels, each = as_channels(mask, 2), torch.randn(1, 1, 3).repeat(1, 3, 1)
    first = network(labels, each)
    assert torch.allclose(first, network(labels, each[:, 0]), atol=1e-6)
    each[:, 2] += 1
    change = (network(labels, each) - first).abs().mean(dim=(0, 1)).detach()
    assert float(change[22:].mean()) > 4 * float(change[:18].mean())


def test_channels_of_unknown_pixels_and_edges_go_where_a_network_has_them():
    mask = torch.tensor([[[0, 1, IGNORE, IGNORE]]], dtype=torch.uint8)
    labels, z = as_channels(mask, 2), torch.zeros(1, 3)
    seen = {
        where: SpatialNetwork(arch(size=(1, 4), unknown=where, edges=True), spectral=False)._seen(labels, z)[0, :, 0]
        for where in ("last", "first", "none")
    }
    border = [1, 1, 1, 0]
    assert seen["last"].tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], border]
    assert seen["first"].tolist() == [[0, 0, 1, 1], [1, 0, 0, 0], [0, 1, 0, 0], border]
    assert seen["none"].tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], border]
    square = as_channels(torch.eye(3, dtype=torch.uint8)[None], 2)
    assert edges(square)[0, 0].tolist() == [[1, 1, 0], [1, 1, 1], [0, 1, 1]]


def test_labelmix_takes_each_region_whole_by_a_coin_for_each_sample_and_class():
    torch.manual_seed(0)
    masks = torch.randint(0, 3, (64, 6, 6)).to(torch.uint8)
    labels = as_channels(torch.where(masks == 2, IGNORE, masks), 2)
    takes = mixing(labels)
    assert tuple(takes.shape) == (64, 1, 6, 6)
    coins = torch.stack([(takes * labels[:, [c]]).sum((1, 2, 3)) / labels[:, c].sum((1, 2)) for c in range(3)])
    assert set(coins.flatten().tolist()) == {0.0, 1.0}
    assert len({tuple(coins[:, row].tolist()) for row in range(64)}) == 8  # every combination occurs


def test_classes_count_alike_and_unknown_pixels_do_not_count():
    masks = torch.zeros(2, 8, 8, dtype=torch.uint8)
    masks[0, 0, :4] = 1
    masks[1] = IGNORE
    labels = as_channels(masks, 3)
    weights = class_weights(labels)
    assert weights.tolist() == pytest.approx([128 / (2 * 60), 128 / (2 * 4), 0, 0])
    logits = torch.zeros(2, 4, 8, 8)
    logits[1] = torch.randn(4, 8, 8)
    assert float(balanced(logits, labels)) == pytest.approx(float(torch.tensor(4.0).log()), rel=1e-5)
    rare = torch.zeros(1, 100, 100, dtype=torch.uint8)
    rare[0, 0, 0] = 1
    assert float(class_weights(as_channels(rare, 2))[1]) == MAX_CLASS_WEIGHT
    assert float(balanced(logits, as_channels(torch.full_like(masks, IGNORE), 3))) == 0


def test_the_segmenting_objective_rewards_what_it_says():
    """A judge that answers right has the smallest loss; consistency of mixed pictures costs nothing where it holds."""

    class Judge(torch.nn.Module):
        def forward(self, pictures):
            return 20 * pictures

    labels = as_channels(torch.tensor([[[0, 1], [1, 0]]], dtype=torch.uint8), 2)
    true = torch.stack([0 * labels[:, 0], labels[:, 0], labels[:, 1]], dim=1)
    painted = torch.zeros_like(true)
    painted[:, 0] = 1
    objective = SegmentingObjective(Judge(), label_mix=10)
    right, wrong = (objective.losses(labels, *pair)[1] for pair in ((painted, true), (true, painted)))
    assert float(right["judged"]) < 1e-6 < 10 < float(wrong["judged"])
    assert float(right["mixed"]) == 0
    assert float(objective.losses(labels, true, true)[0]["gan"]) < 1e-6
    assert SegmentingObjective(Judge(), label_mix=0).losses(labels, painted, true)[1].keys() == {"judged"}


@pytest.mark.parametrize("name", ["patches", "segmenting"])
def test_one_look_serves_the_painter_and_the_judges(name):
    """The painter's slope is that of its own terms; the judges' is that of theirs, on pictures without a gradient."""
    torch.manual_seed(0)
    labels = as_channels(torch.randint(0, 2, (3, 16, 16), dtype=torch.uint8), 2)
    painted, true = torch.rand(2, 3, 3, 16, 16) * 2 - 1
    patches = PatchObjective(Discriminators(2, 4, 2), 10.0)
    objective = (
        patches if name == "patches" else SegmentingObjective(SegmentingDiscriminator(2, (16, 16), 4, 8), 10.0)
    ).eval()
    seen = painted.clone().requires_grad_()
    torch.manual_seed(1)
    theirs, own = objective.losses(labels, seen, true)
    (slope,) = torch.autograd.grad(sum(theirs.values()), seen, retain_graph=True)
    sum(own.values()).backward(inputs=list(objective.parameters()))
    assert float(slope.abs().max()) > 0
    assert seen.grad is None
    found = [parameter.grad.clone() for parameter in objective.parameters()]
    objective.zero_grad(set_to_none=True)
    torch.manual_seed(1)
    sum(objective.losses(labels, painted, true)[1].values()).backward()
    for one, parameter in zip(found, objective.parameters(), strict=True):
        assert torch.allclose(one, parameter.grad, atol=1e-6)
