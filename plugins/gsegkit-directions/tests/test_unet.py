import pytest
import torch
from gsegkit_directions.unet import Unet, cross_entropy

from gsegkit.context import read_metrics
from gsegkit.dataset import MemoryDataset
from gsegkit.errors import ArtifactError, ConfigError, ContractError, DataError
from gsegkit.plugins import installed
from gsegkit.training.ensemble import Ensemble

CLASSES = ("ground", "square")


def build(**options):
    return installed().build("segmenter", "unet-paper", {"channels": 4, "steps": 5, "batch_size": 4, **options})


def squares(count=16, size=32, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(count, size, size, dtype=torch.uint8)
    for mask, (top, left) in zip(
        masks, torch.randint(0, size - 12, (count, 2), generator=generator).tolist(), strict=True
    ):
        mask[top : top + 12, left : left + 12] = 1
    noise = torch.randint(0, 60, (count, 3, size, size), generator=generator, dtype=torch.uint8)
    return MemoryDataset(noise + 120 * masks.unsqueeze(1), masks, CLASSES, **options)


def test_the_papers_network():
    assert sum(p.numel() for p in Unet(1, 64).parameters()) == 13_395_329  # as published with one output
    shapes = [tuple(stage[3].weight.shape[:2]) for stage in Unet(2, 64).up]
    assert shapes == [(256, 256), (128, 128), (64, 64), (64, 64)]


def test_the_papers_training():
    config = installed().build("segmenter", "unet-paper", {"profile": "paper"}).config
    assert (config.steps, config.batch_size, config.lr, config.flip) == (12_000, 95, 1e-3, 0.0)
    assert round(config.decay_at * config.steps) == 8_000
    config = installed().build("segmenter", "unet-paper", {"profile": "reference"}).config
    assert (config.steps, config.batch_size, config.decay_factor) == (18_000, 128, 1.0)


def test_learns_squares(context):
    segmenter = build(steps=60, batch_size=8, lr=1e-2)
    segmenter.fit(squares(48, fit_rule="crop"), context())
    test = squares(16, seed=9)
    found, truth = segmenter.predict(test.pixels) == 1, test.masks == 1
    assert float((found & truth).sum() / (found | truth).sum()) > 0.9
    assert (segmenter.classes, segmenter.train_size, segmenter.fit_rule) == (CLASSES, (32, 32), "crop")


@pytest.mark.parametrize(("factor", "last"), [(0.2, 2e-3), (1.0, 1e-2)])
def test_the_rate_drops_once(factor, last, context):
    ctx = context()
    build(steps=30, lr=1e-2, decay_at=0.5, decay_factor=factor).fit(squares(), ctx)
    assert [row["lr"] for row in read_metrics(ctx.folder / "metrics.jsonl")] == pytest.approx([1e-2, last, last])


def test_ignored_and_weightless_pixels_cost_nothing():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, generator=generator)
    masks = torch.randint(0, 3, (2, 4, 5), generator=generator, dtype=torch.uint8)
    plain = torch.nn.functional.cross_entropy(logits, masks.long())
    torch.testing.assert_close(cross_entropy(logits, masks, None), plain)
    half = masks.clone()
    half[:, :2] = 255
    weights = torch.ones(2, 4, 5)
    weights[:, :2] = 0
    torch.testing.assert_close(cross_entropy(logits, half, None), cross_entropy(logits, masks, weights))
    assert float(cross_entropy(logits, torch.full_like(masks, 255), None)) == 0


def test_refusals(context):
    with pytest.raises(DataError, match="1 images are too few"):
        build().fit(squares(1), context())
    data = squares(4)
    data.masks[0, 0, 0] = 5
    with pytest.raises(DataError, match="class 5, but there are 2 classes"):
        build().fit(data, context("classes"))
    with pytest.raises(ArtifactError, match="not trained"):
        build().logits(torch.zeros(1, 3, 32, 32))
    segmenter = build(steps=1)
    segmenter.fit(squares(4), context("one"))
    with pytest.raises(ContractError, match="at least 2 images"):
        segmenter.train().logits(torch.zeros(1, 3, 32, 32))


def test_ensemble_is_the_mean_of_the_logits(context):
    one, two = build(), build()
    one.fit(squares(), context("one"))
    two.fit(squares(seed=1), context("two", seed=8))
    pixels = squares(3, seed=4).pixels
    both = Ensemble([one, two])
    assert both.classes == CLASSES
    images = pixels / 127.5 - 1
    with torch.no_grad():
        wanted = ((one.logits(images) + two.logits(images)) / 2).softmax(dim=1)
    torch.testing.assert_close(both(pixels), wanted, atol=1e-5, rtol=0)
    with pytest.raises(ConfigError, match="without segmenters"):
        Ensemble([])
    two.classes = ("ground", "disc")
    with pytest.raises(ConfigError, match="cannot be averaged"):
        Ensemble([one, two])


def test_exports_for_any_size(context):
    segmenter = build()
    segmenter.fit(squares(), context())
    dims = {"images": {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}}

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.segmenter = segmenter

        def forward(self, images):
            return self.segmenter.logits(images)

    program = torch.export.export(Logits(), (torch.rand(2, 3, 40, 50),), dynamic_shapes=dims, strict=False)
    images = torch.rand(3, 3, 33, 70)
    torch.testing.assert_close(program.module()(images), segmenter.logits(images), rtol=1e-4, atol=1e-4)
