"""Self-training on photographs: the stages, what they depend on, and that they help where photographs look otherwise."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gsegkit import api
from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.toy import Toy
from gsegkit.context import RunContext
from gsegkit.dataset import MemoryDataset, UnlabelledImages
from gsegkit.engine.choices import choose
from gsegkit.engine.estimate import estimate
from gsegkit.engine.pipeline import run
from gsegkit.engine.plan import Plan, SelfTrain
from gsegkit.engine.preflight import check
from gsegkit.engine.selftrain import Mixed, label_photographs, spread
from gsegkit.engine.shards import ShardDataset
from gsegkit.errors import ConfigError, DataError, InterruptedRunError
from gsegkit.images import to_pixels, write_png
from gsegkit.interfaces import Refiner, Segmenter
from gsegkit.progress import Progress
from gsegkit.types import IGNORE

SIZE = 32


def photographs(folder: Path, count: int) -> None:
    """Pictures of the toy."""
    for i, pixels in enumerate(to_pixels(Toy(ToyConfig(size=SIZE)).sample(torch.arange(5000, 5000 + count)).images)):
        write_png(folder / f"{i:03d}.png", pixels)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    photographs(tmp_path / "photos", 20)
    return tmp_path / "photos"


def with_photos(plan: Plan, folder: Path, *options: str, confidence: float = 0.4) -> Plan:
    record = plan.model_dump(mode="json")
    options = ("selftrain.refine=null", f"selftrain.min_confidence={confidence}", *options)
    return Plan.from_options({**record, "data_reader": "plain"}, options, photos=folder)


class Said(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str, level: str = "info") -> None:
        self.lines.append(text)

    @property
    def reused(self) -> list[str]:
        return [line.partition(":")[0] for line in self.lines if "reused" in line]


# ---- stages --------------------------------------------------------------------------------------------------------


def test_photographs_make_a_second_segmenter_which_is_the_runs(plan, photos, registry, tmp_path):
    result = run(with_photos(plan, photos), tmp_path / "run", registry=registry)
    stages = {path.parent.name for path in (tmp_path / "run").glob("*/stage.json")}
    assert stages == {"extractor", "dataset", "segmenter", "selftrain-1", "segmenter-1", "report"}
    labelled = ShardDataset(tmp_path / "run/selftrain-1")
    assert 0 < len(labelled) <= 20
    assert labelled.classes == ShardDataset(tmp_path / "run/dataset").classes
    session = api.Session(registry, Progress(), threading.Event())
    own = api.load(tmp_path / "run", session=session)
    first, second = (api.load(tmp_path / "run" / name, session=session) for name in ("segmenter", "segmenter-1"))
    pixels = labelled[0].pixels[None]
    assert torch.equal(own.probs(pixels), second.probs(pixels))
    assert not torch.equal(own.probs(pixels), first.probs(pixels))
    before = json.loads((tmp_path / "run/report/before/metrics.json").read_text())
    assert f"before self-training: accuracy {before['accuracy']:.4f}" in result.report.notes[-1]
    assert "changed class" in (tmp_path / "run/report/figures/selftrain.txt").read_text()


def test_without_photographs_nothing_changes(plan, registry, tmp_path):
    run(plan, tmp_path / "run", registry=registry)
    assert not list((tmp_path / "run").glob("selftrain*"))
    assert not (tmp_path / "run/photographs.json").exists()
    record = json.loads((tmp_path / "run/config.json").read_text())
    assert not {"photos", "selftrain"} & set(record), "the folder of a version before these options is the same"
    said = Said()
    run(plan, tmp_path / "run", registry=registry, progress=said)
    assert said.reused == ["extractor", "dataset", "segmenter"]


def test_the_same_command_again_reuses_both_rounds(plan, photos, registry, tmp_path):
    wanted = with_photos(plan, photos, "selftrain.rounds=2")
    first = run(wanted, tmp_path / "run", registry=registry)
    said = Said()
    again = run(wanted, tmp_path / "run", registry=registry, progress=said)
    rounds = ["selftrain-1", "segmenter-1", "selftrain-2", "segmenter-2"]
    assert said.reused == ["extractor", "dataset", "segmenter", *rounds]
    assert again.report.metrics == first.report.metrics


def test_a_changed_photograph_is_named_and_needs_update(plan, photos, registry, tmp_path):
    wanted = with_photos(plan, photos)
    run(wanted, tmp_path / "run", registry=registry)
    old = (photos / "003.png").read_bytes()
    write_png(photos / "003.png", torch.zeros(3, SIZE, SIZE, dtype=torch.uint8))
    (photos / "004.png").unlink()
    write_png(photos / "new.png", torch.zeros(3, SIZE, SIZE, dtype=torch.uint8))
    message = r"'003\.png' has changed; 'new\.png' is new; '004\.png' is gone"
    with pytest.raises(ConfigError, match=message) as caught:
        run(wanted, tmp_path / "run", registry=registry)
    assert "--update" in caught.value.hint
    said = Said()
    run(wanted, tmp_path / "run", registry=registry, progress=said, update=True)
    assert said.reused == ["extractor", "dataset", "segmenter"]
    assert (photos / "003.png").read_bytes() != old


def test_without_its_photographs_a_run_has_its_first_segmenter_again(plan, photos, registry, tmp_path):
    run(with_photos(plan, photos), tmp_path / "run", registry=registry)
    run(Plan.from_options({**plan.model_dump(mode="json")}), tmp_path / "run", registry=registry, update=True)
    session = api.Session(registry, Progress(), threading.Event())
    own, first = (api.load(path, session=session) for path in (tmp_path / "run", tmp_path / "run/segmenter"))
    pixels = torch.randint(0, 256, (1, 3, SIZE, SIZE), dtype=torch.uint8)
    assert torch.equal(own.probs(pixels), first.probs(pixels))


@pytest.mark.parametrize("stop_in", ["selftrain-1: labelling photographs", "segmenter-1: training"])
def test_an_interrupted_self_training_continues(plan, photos, registry, tmp_path, monkeypatch, stop_in):
    monkeypatch.setattr("gsegkit.engine.selftrain.SHARD_SIZE", 8)
    monkeypatch.setattr("gsegkit.engine.selftrain.BATCH_SIZE", 4)
    wanted = with_photos(plan, photos)
    whole = run(wanted, tmp_path / "whole", registry=registry)
    stop = threading.Event()

    class Stopper(Progress):
        task = ""

        def start(self, task, total, done=0, planned=None):
            self.task = task

        def advance(self, done, values):
            if self.task == stop_in and done == 3:
                stop.set()

    with pytest.raises(InterruptedRunError):
        run(wanted, tmp_path / "run", registry=registry, progress=Stopper(), stop=stop)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "run/selftrain-1").glob("*.safetensors")}
    assert len(kept) == (1 if "selftrain" in stop_in else 3)
    again = run(wanted, tmp_path / "run", registry=registry)
    assert again.report.metrics == whole.report.metrics
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items()), "finished work was done again"
    for path in (tmp_path / "whole/selftrain-1").glob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / "run/selftrain-1" / path.name).read_bytes()


# ---- plan ----------------------------------------------------------------------------------------------------------


def test_options_of_the_plan(plan, photos, registry, tmp_path):
    wanted = Plan.from_options(plan.model_dump(mode="json"), ["selftrain.share=0.3"], photos=photos)
    assert wanted.selftrain == SelfTrain(share=0.3)
    assert wanted.photo_rounds == 1
    window = Plan.from_options(plan.model_dump(mode="json"), ["selftrain.refine=window"], photos=photos)
    window = Plan.from_options(window.model_dump(mode="json"), ["selftrain.refine.max=0.5"])
    chosen = choose(window, registry)
    assert chosen["selftrain.refine"].config.max == 0.5
    assert chosen.refiners == ()
    assert plan.selftrain is None
    assert plan.default_folder() != wanted.default_folder()
    found = {p.where: p for p in check(choose(wanted, registry), tmp_path / "run")}
    assert "no refiner 'colours'" in found["selftrain.refine"].message
    lonely = Plan.from_options(plan.model_dump(mode="json"), ["selftrain.share=0.3"])
    assert "no photographs" in {p.where: p for p in check(choose(lonely, registry))}["selftrain"].message
    absent = with_photos(plan, tmp_path / "absent")
    assert "does not exist" in {p.where: p for p in check(choose(absent, registry))}["photos"].message


def test_too_few_or_damaged_photographs_stop_before_the_work(plan, photos, registry, tmp_path):
    (photos / "007.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1 of 20 photographs cannot be used.*007\.png"):
        run(with_photos(plan, photos), tmp_path / "run", registry=registry)
    assert not (tmp_path / "run/extractor/stage.json").exists()
    photographs(tmp_path / "one", 1)
    with pytest.raises(DataError, match="at least 2 photographs"):
        run(with_photos(plan, tmp_path / "one"), tmp_path / "other", registry=registry)


def test_the_estimate_counts_the_photographs(plan, photos, registry, tmp_path):
    found = estimate(with_photos(plan, photos, "selftrain.rounds=3"), registry, tmp_path / "run").seconds
    assert {"selftrain-1", "segmenter-1"} <= set(found)
    assert found["segmenter-1"] > found["segmenter"], "three rounds cost more than one"


# ---- labels --------------------------------------------------------------------------------------------------------


class Columns(Segmenter):
    """Knows the left half, doubts the right half; black pictures it doubts altogether."""

    classes = ("a", "b")
    train_size = (8, 8)

    def __init__(self) -> None:
        super().__init__(SelfTrain())

    def fit(self, dataset, ctx, *, val=None):
        raise NotImplementedError

    def logits(self, images):
        sure = (torch.arange(images.shape[3]) < images.shape[3] // 2).float() * (images.amax((1, 2, 3)) > 0)[:, None]
        sure = sure[:, None, None, :].expand(-1, 1, images.shape[2], -1)
        return torch.cat([torch.zeros_like(sure), 5 * sure], 1)


def test_doubtful_pixels_are_ignored_and_doubtful_photographs_left_out(tmp_path):
    for i, value in enumerate((200, 200, 0)):
        write_png(tmp_path / f"{i}.png", torch.full((3, 20, 20), value, dtype=torch.uint8))
    images = UnlabelledImages(tuple(sorted(tmp_path.glob("*.png"))))
    config = SelfTrain(min_confidence=0.9, min_labelled=0.3, refine=None)
    made = label_photographs(Columns(), None, images, config, RunContext(tmp_path / "work"))
    assert len(made) == 2
    assert made.counts == {"photographs": 3, "kept": 2}
    mask = made[0].mask
    assert mask.shape == (8, 8)
    assert mask[:, :3].unique().tolist() == [1]
    assert mask[:, 5:].unique().tolist() == [IGNORE]
    with pytest.raises(DataError, match="sure of only 0 of 3"):
        strict = config.model_copy(update={"min_labelled": 0.9})
        label_photographs(Columns(), None, images, strict, RunContext(tmp_path / "strict"))


def test_mixing_keeps_the_share_and_repeats_nothing():
    def pairs(n, value):
        return MemoryDataset(torch.full((n, 3, 4, 4), value, dtype=torch.uint8), torch.zeros(n, 4, 4).byte(), ("a",))

    for synthetic, photos, share in [(100, 40, 0.5), (100, 40, 0.0), (10, 400, 0.7), (2000, 100, 0.3)]:
        mixed = Mixed(pairs(synthetic, 1), pairs(photos, 2), share)
        values = torch.tensor([int(mixed[i].pixels[0, 0, 0]) for i in range(len(mixed))])
        assert abs(float((values == 1).float().mean()) - share) < 0.02
        assert int((values == 1).sum()) <= synthetic
        assert int((values == 2).sum()) <= photos
    assert list(spread(5, 9)) == [0, 1, 2, 3, 4]
    assert spread(9, 3) == [0, 3, 6]


class TwoMeans(Refiner):
    """Each picture's own two grey levels, starting from the masks: what the segmenter cannot know of another light."""

    def refine(self, batch):
        grey = batch.pixels.float().mean(1)
        masks = batch.masks
        for _ in range(3):
            inside = masks.float()
            high = (grey * inside).sum((1, 2)) / inside.sum((1, 2)).clamp_min(1)
            low = (grey * (1 - inside)).sum((1, 2)) / (1 - inside).sum((1, 2)).clamp_min(1)
            masks = (grey > ((high + low) / 2)[:, None, None]).to(torch.uint8)
        probs = torch.stack([1 - masks.float(), masks.float()], 1)
        return replace(batch, masks=masks, probs=probs)


def squares(count: int, darker: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Bright squares on a darker ground, with noise; their masks."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(count, 16, 16, dtype=torch.uint8)
    for mask, (top, left) in zip(masks, torch.randint(0, 8, (count, 2), generator=generator).tolist(), strict=True):
        mask[top : top + 8, left : left + 8] = 1
    noise = 18 * torch.randn(count, 3, 16, 16, generator=generator)
    grey = 90 - darker + 80 * masks.unsqueeze(1).float() + noise
    return grey.clamp(0, 255).to(torch.uint8), masks


def test_the_network_learns_what_the_refiner_finds_in_photographs_of_another_light(parts, tmp_path):
    synthetic = MemoryDataset(*squares(100, 0, seed=0), ("ground", "square"))
    for i, pixels in enumerate(squares(100, 40, seed=1)[0]):
        write_png(tmp_path / f"photos/{i:03d}.png", pixels)
    images = UnlabelledImages(tuple(sorted((tmp_path / "photos").glob("*.png"))))

    def fitted(pairs, name):
        segmenter = parts.TinySegmenter(parts.TinyConfig(steps=60))
        segmenter.fit(pairs, RunContext(tmp_path / name))
        return segmenter.eval()

    first = fitted(synthetic, "first")
    config = SelfTrain(min_labelled=0.2)
    made = label_photographs(first, TwoMeans(config), images, config, RunContext(tmp_path / "labelled"))
    second = fitted(Mixed(synthetic, made, 0.5), "second")
    there, truth = squares(50, 40, seed=2)
    at_home, known = squares(50, 0, seed=3)
    before, after = ((part.predict(there) == truth).float().mean() for part in (first, second))
    assert after > before + 0.05, f"{before:.3f} -> {after:.3f}"
    assert (second.predict(at_home) == known).float().mean() > (first.predict(at_home) == known).float().mean() - 0.02
