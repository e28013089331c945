import dataclasses

import pytest
import torch

from gsegkit.context import RunContext
from gsegkit.dataset import MemoryDataset, Subset, UnlabelledImages
from gsegkit.engine.shards import MANIFEST_FILE, ShardDataset, shard_path
from gsegkit.engine.synthesis import synthesize
from gsegkit.errors import ArtifactError, ContractError, DataError, InterruptedRunError, StorageError
from gsegkit.images import write_png
from gsegkit.interfaces import Refiner
from gsegkit.testing import Listener, StopAfter
from gsegkit.types import GeneratedBatch


@pytest.fixture
def toy(registry):
    return registry.build("generator", "toy", {"size": 16})


@pytest.fixture
def native(registry, toy):
    extractor = registry.build("extractor", "native")
    extractor.fit(toy, RunContext("."))
    return extractor


def rows(dataset):
    # cloned: the tensors are views of the memory-mapped file, which one test overwrites in place
    return {sample.name: (sample.pixels.clone(), sample.mask.clone()) for sample in dataset}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(x, y) for k in a for x, y in zip(a[k], b[k], strict=True))


def make(toy, native, folder, count, refiners=(), batch_size=8, **more):
    return synthesize(toy, native, refiners, count, RunContext(folder, batch_size=batch_size), **more)


def test_pairs_are_the_generators_samples_with_their_masks(toy, native, tmp_path):
    dataset = make(toy, native, tmp_path, 20)
    assert len(dataset) == 20
    assert dataset.classes == toy.info.mask_classes
    assert dataset.fit_rule == toy.info.fit_rule
    batch = toy.sample(dataset.seeds()[:8])
    truth = toy.truth(batch)
    assert torch.equal(torch.stack([dataset[i].mask for i in range(8)]), truth)
    pixels, masks = dataset.batch([3, 1])
    assert torch.equal(pixels[0], dataset[3].pixels)
    assert torch.equal(masks[1], dataset[1].mask)


def test_a_larger_data_set_begins_with_the_smaller_one(toy, native, tmp_path):
    small, large = make(toy, native, tmp_path / "a", 21), make(toy, native, tmp_path / "b", 50)
    assert same(rows(small), dict(list(rows(large).items())[:21]))


def test_workers_together_make_what_one_makes(toy, native, tmp_path):
    whole = make(toy, native, tmp_path / "one", 700)
    assert make(toy, native, tmp_path / "two", 700, worker=(1, 2)) is None
    shared = make(toy, native, tmp_path / "two", 700, worker=(0, 2))
    assert same(rows(whole), rows(shared))


def test_a_damaged_or_missing_shard_alone_is_made_again(toy, native, tmp_path):
    first = rows(make(toy, native, tmp_path, 600))
    path = shard_path(tmp_path, 1)
    untouched = shard_path(tmp_path, 0).stat().st_mtime_ns
    path.write_bytes(path.read_bytes()[:-9] + b"\0" * 9)
    with pytest.raises(ArtifactError, match="shard 1"):
        ShardDataset(tmp_path)
    assert same(first, rows(make(toy, native, tmp_path, 600)))
    assert shard_path(tmp_path, 0).stat().st_mtime_ns == untouched


def test_a_stop_leaves_whole_shards_and_goes_on(toy, native, tmp_path):
    stop = StopAfter(1)
    ctx = RunContext(tmp_path / "b", batch_size=8, progress=stop, stop=stop.event)
    with pytest.raises(InterruptedRunError):
        synthesize(toy, native, [], 600, ctx)
    assert shard_path(ctx.folder, 0).exists()
    assert not shard_path(ctx.folder, 1).exists()
    assert same(rows(make(toy, native, tmp_path / "a", 600)), rows(make(toy, native, ctx.folder, 600)))


def test_refiners_run_in_order_and_their_drops_are_counted(toy, native, tmp_path, registry):
    loose = registry.build("refiner", "window", {"max": 0.5})
    strict = registry.build("refiner", "window", {"max": 0.25})
    dataset = make(toy, native, tmp_path / "a", 100, [("loose", loose), ("strict", strict)])
    assert dataset.counts["candidates"] == 100
    assert dataset.counts["strict"] > 0
    assert dataset.counts["kept"] == len(dataset) == 100 - dataset.counts["loose"] - dataset.counts["strict"]
    assert all((sample.mask != 0).float().mean() <= 0.25 for sample in dataset)
    with pytest.raises(DataError, match=r"dropped all of 100 samples .*nothing 100"):
        make(toy, native, tmp_path / "b", 100, [("nothing", registry.build("refiner", "window", {"max": 0}))])


def test_a_refiner_that_invents_rows_is_blamed(toy, native, tmp_path):
    class Inventor(Refiner):
        def refine(self, batch):
            return dataclasses.replace(batch, seeds=batch.seeds + 1)

    with pytest.raises(ContractError, match="refiner 'inventor' returned rows"):
        make(toy, native, tmp_path, 8, [("inventor", Inventor(None))])


def test_images_that_are_not_finite_are_dropped_counted_and_many_are_an_error(toy, native, tmp_path, monkeypatch):
    real = type(toy).synthesize
    broken = {3}

    def synthesize_with_nan(self, latents, labels=None, **options):
        batch = real(self, latents, labels, **options)
        images = batch.images.clone()
        for row in broken:
            images[row % len(images)] = float("nan")
        return GeneratedBatch(images, batch.latents, batch.labels, features=batch.features, probs=batch.probs)

    monkeypatch.setattr(type(toy), "synthesize", synthesize_with_nan)
    dataset = make(toy, native, tmp_path / "a", 8)
    assert dataset.counts["non-finite"] == 1
    assert len(dataset) == 7
    with pytest.raises(ContractError, match="not finite"):
        make(toy, native, tmp_path / "b", 200)


@pytest.mark.parametrize("classes", [(0,), (2,), (1, 2)])
def test_collapsed_masks_raise_an_alarm(toy, native, tmp_path, monkeypatch, classes):
    """Whichever class has swallowed the others; parts that share the picture without a background have not collapsed."""
    real = type(native).extract

    def only_these(self, batch, generator):
        masks = real(self, batch, generator)
        probs = torch.zeros_like(masks.probs)
        for i, rows in zip(classes, probs.chunk(len(classes), dim=2), strict=True):
            rows[:, i] = 1
        return dataclasses.replace(masks, probs=probs)

    monkeypatch.setattr(type(native), "extract", only_these)
    said = Listener()
    synthesize(toy, native, [], 16, RunContext(tmp_path, batch_size=8, progress=said))
    alarms = [(level, text) for level, text in said.messages if "probably collapsed" in text]
    if len(classes) > 1:
        assert alarms == []
    else:
        ((level, text),) = alarms
        assert level == "warning"
        assert f"'{native.classes[classes[0]]}' covers 100.0% of the images" in text


def test_a_disk_that_is_too_small_is_told_before_the_work(toy, native, tmp_path, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))
    with pytest.raises(StorageError, match="the pairs need about"):
        make(toy, native, tmp_path, 50)
    assert not list(tmp_path.iterdir())


def test_reading_a_folder_that_is_no_data_set(tmp_path):
    with pytest.raises(ArtifactError, match="does not exist"):
        ShardDataset(tmp_path)
    (tmp_path / MANIFEST_FILE).write_text('{"classes": []}')
    with pytest.raises(ArtifactError, match="not the record it should be: classes"):
        ShardDataset(tmp_path)


def test_views():
    pixels = torch.randint(0, 255, (5, 3, 4, 4), dtype=torch.uint8)
    masks = torch.randint(0, 2, (5, 4, 4), dtype=torch.uint8)
    data = MemoryDataset(pixels, masks, ("a", "b"), fit_rule="crop")
    part = Subset(data, [4, 2])
    assert len(part) == 2
    assert part.fit_rule == "crop"
    assert torch.equal(part[0].pixels, pixels[4])
    assert torch.equal(part.batch([1])[1][0], masks[2])
    with pytest.raises(ContractError, match=r"masks must be uint8\[5, 4, 4\]"):
        MemoryDataset(pixels, masks.long(), ("a", "b"))


def test_unlabelled_images_are_fitted(tmp_path):
    for i, size in enumerate([(20, 40), (40, 20)]):
        write_png(tmp_path / f"{i}.png", torch.full((3, *size), 9, dtype=torch.uint8))
    images = UnlabelledImages(tuple(sorted(tmp_path.glob("*.png"))))
    assert images[0].shape == (3, 20, 40)
    for rule in ("squash", "crop", "pad"):
        assert images.fitted((16, 16), rule).batch([0, 1]).shape == (2, 3, 16, 16)
