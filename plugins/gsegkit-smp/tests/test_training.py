import json

import pytest
import torch
from gsegkit_smp.config import UnetConfig
from gsegkit_smp.loader import Loader, split
from gsegkit_smp.training import learning_rate

from gsegkit.context import read_metrics
from gsegkit.dataset import MemoryDataset, Subset
from gsegkit.errors import ConfigError, DataError, InterruptedRunError
from gsegkit.parts import load_part, save_part
from gsegkit.plugins import installed
from gsegkit.testing import Listener, StopAfter

CLASSES = ("ground", "disc", "square")
SMALL = {"encoder": "tu-test_resnet", "steps": 6, "batch_size": 4, "val_every": 2}


def build(name="unet", **options):
    return installed().build("segmenter", name, {**SMALL, **options})


def state_of(segmenter):
    return {name: value.clone() for name, value in segmenter.state_dict().items()}


def equal(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_learns_shapes(tmp_path, shapes, context):
    segmenter = build(steps=60, batch_size=8, lr=5e-3, val_every=20)
    segmenter.fit(shapes(48, fit_rule="crop"), context(tmp_path, checkpoint_seconds=60))
    test = shapes(16, seed=9)
    predicted = segmenter.predict(test.pixels)
    for label in range(3):
        one, two = predicted == label, test.masks == label
        assert (one & two).sum() / (one | two).sum() > 0.9, CLASSES[label]
    assert segmenter.classes == CLASSES
    assert segmenter.train_size == (32, 32)
    assert segmenter.fit_rule == "crop"
    assert not segmenter.training
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert rows[-1]["step"] == 60
    assert {"loss", "lr", "val_miou"} <= rows[-1].keys()
    assert rows[-1]["loss"] < rows[0]["loss"]


@pytest.mark.parametrize("stops", [[1], [2, 5]])
def test_resume_is_bit_identical(tmp_path, stops, shapes, context):
    options = {"dice_weight": 0.5, "class_weights": "inverse-sqrt-frequency", "model_options": {}}
    whole, parts = build(**options), None
    whole.fit(shapes(), context(tmp_path / "whole"))
    for stop in stops:
        listener = StopAfter(stop - 1)
        if stop == 1:
            listener.event.set()
        parts = build(**options)
        with pytest.raises(InterruptedRunError):
            parts.fit(shapes(), context(tmp_path / "parts", progress=listener, stop=listener.event))
    parts = build(**options)
    parts.fit(shapes(), context(tmp_path / "parts"))
    assert equal(state_of(whole), state_of(parts))
    one, two = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts"))
    assert one == two


def test_resume_after_a_crash_is_bit_identical(tmp_path, monkeypatch, shapes, context):
    whole = build("deeplabv3", ema_decay=0.0)
    whole.fit(shapes(), context(tmp_path / "whole"))
    crashing, data = build("deeplabv3", ema_decay=0.0), shapes()
    read, reads = data.batch, []

    def crash(indices):
        reads.append(indices)
        if len(reads) == 5:
            raise OSError("cable pulled")
        return read(indices)

    monkeypatch.setattr(data, "batch", crash)
    # the data set inside `fit` is a Subset, which asks this one
    with pytest.raises(OSError, match="cable"):
        crashing.fit(data, context(tmp_path / "parts"))
    again = build("deeplabv3", ema_decay=0.0)
    again.fit(shapes(), context(tmp_path / "parts"))
    assert equal(state_of(whole), state_of(again))


def test_other_seeds_train_otherwise(tmp_path, shapes, context):
    one, two = build(), build()
    one.fit(shapes(), context(tmp_path / "1"))
    two.fit(shapes(), context(tmp_path / "2", seed=4))
    assert not equal(state_of(one), state_of(two))


def test_stored_and_loaded_predicts_the_same(tmp_path, shapes, context):
    segmenter = build()
    segmenter.fit(shapes(), context(tmp_path))
    save_part(segmenter, tmp_path / "part", "segmenter", "unet")
    other = build()
    load_part(other, tmp_path / "part")
    pixels = shapes(3, (33, 47), seed=5).pixels
    assert torch.equal(other.eval().probs(pixels), segmenter.probs(pixels))
    assert (other.classes, other.train_size, other.fit_rule) == (CLASSES, (32, 32), "native")
    assert json.loads((tmp_path / "part" / "component.json").read_text())["config"]["encoder"] == "tu-test_resnet"


def test_dataset_weights_are_used(tmp_path, shapes, context):
    class Weighted(MemoryDataset):
        weight = 1.0

        def batch_weights(self, indices):
            weights = torch.ones(len(indices), *self.masks.shape[1:])
            weights[self.masks[torch.as_tensor(indices)] == 1] = self.weight
            return weights

    def fitted(folder, masks, weight):
        data = Weighted(shapes().pixels, masks, CLASSES)
        data.weight = weight
        segmenter = build(val_fraction=0.0)
        segmenter.fit(data, context(tmp_path / folder))
        return state_of(segmenter)

    masks = shapes().masks
    weightless = fitted("weightless", masks, 0.0)
    assert equal(weightless, fitted("ignored", masks.masked_fill(masks == 1, 255), 1.0))
    assert not equal(weightless, fitted("counted", masks, 1.0))


def test_validation_of_its_own_with_mixed_sizes(tmp_path, shapes, context):
    class Mixed(MemoryDataset):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            if index % 3:
                return sample
            return type(sample)(sample.name, sample.pixels[:, :25, :31].clone(), sample.mask[:25, :31].clone())

    validation = Mixed(*(getattr(shapes(7, seed=2), name) for name in ("pixels", "masks", "classes")))
    segmenter = build()
    segmenter.fit(shapes(), context(tmp_path), val=validation)
    with pytest.raises(DataError, match="classes"):
        segmenter.fit(shapes(), context(tmp_path), val=MemoryDataset(validation.pixels, validation.masks, ("a", "b")))


def test_collapse_is_reported(tmp_path, shapes, context):
    listener = Listener()
    data = shapes()
    silent = MemoryDataset(data.pixels, torch.where(data.masks == 2, 2, 0).to(torch.uint8), CLASSES)
    build(lr=1e-6, weight_decay=0.0).fit(silent, context(tmp_path, progress=listener), val=shapes(6, seed=1))
    # an untrained network sees whatever it sees; a collapsed one must be named
    from gsegkit_smp.validation import Confusion

    assert Confusion(torch.tensor([[95, 0], [5, 0]])).collapsed() == 0
    assert Confusion(torch.tensor([[90, 0], [9, 1]])).collapsed() == 0
    assert Confusion(torch.tensor([[80, 0], [0, 20]])).collapsed() is None
    assert Confusion(torch.tensor([[100, 0], [0, 0]])).collapsed() is None


def test_a_collapsed_training_warns(tmp_path, shapes, context):
    data, listener = shapes(), Listener()
    blank = MemoryDataset(data.pixels, torch.zeros_like(data.masks), CLASSES)
    build(steps=40, lr=1e-2).fit(blank, context(tmp_path, progress=listener), val=shapes(6, seed=1))
    warnings = listener.warnings
    assert len(warnings) == 1
    assert "almost nothing but 'ground'" in warnings[0]


@pytest.mark.parametrize(("count", "words"), [(0, "0 images"), (2, "2 images"), (1, "1 image is")])
def test_too_few_images(tmp_path, count, words, shapes, context):
    fraction = 0.0 if count == 1 else 0.1
    with pytest.raises(DataError, match=words):
        build(val_fraction=fraction).fit(Subset(shapes(2), range(count)), context(tmp_path))


def test_unknown_class_in_a_mask(tmp_path, shapes, context):
    data = shapes()
    data.masks[5, 0, 0] = 7
    with pytest.raises(DataError, match="class 7, but there are 3 classes"):
        build(steps=20).fit(data, context(tmp_path))


def test_fp16_needs_cuda(tmp_path, shapes, context):
    with pytest.raises(ConfigError, match="float16 needs a CUDA device"):
        build(dtype="float16").fit(shapes(), context(tmp_path))


def test_bf16_trains_on_the_cpu(tmp_path, shapes, context):
    segmenter = build(dtype="bfloat16", steps=3)
    segmenter.fit(shapes(), context(tmp_path))
    assert segmenter.logits(torch.zeros(1, 3, 32, 32)).dtype == torch.float32


def test_every_epoch_holds_every_image_once_and_no_batch_is_short(shapes):
    with Loader(shapes(10), 4, seed=1) as loader:
        seen = [index for step in range(5) for index in loader.indices(step)]
        assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
        assert seen[:10] != seen[10:]
        assert len(loader.batch(7).masks) == 4
    with Loader(shapes(3), 16, seed=1) as loader:
        assert len(loader.batch(0).masks) == 3


def test_split_is_a_function_of_the_seed(shapes):
    data = shapes(20)
    (train, val), (_, again), (_, other) = (split(data, 0.2, 100, seed) for seed in (1, 1, 2))
    assert len(train) == 16
    assert val.indices == again.indices != other.indices
    assert not set(train.indices) & set(val.indices)


def test_learning_rates():
    cosine = UnetConfig(lr=1.0, warmup=0.1)
    rates = [learning_rate(cosine, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[99] < 0.001
    step = UnetConfig(profile="paper-directions")
    assert learning_rate(step, 7_999, 12_000) == pytest.approx(1e-3)
    assert learning_rate(step, 8_000, 12_000) == pytest.approx(2e-4)
