"""The residual generators in whole runs, with random weights: from a name to a segmenter."""

import json

import pytest
import torch

import gsegkit
from gsegkit.errors import GsegkitError

pytest.importorskip("gsegkit_resgan")

TINY = ["gen.resolution=32", "gen.channels=4", "seg.steps=6", "seg.batch_size=4"]
CLASSES = ["gen.num_classes=10", "gen.classes=2,5,7"]
CONDITIONAL = ("biggan", "acgan", "sagan", "sngan", "contragan", "selfcondgan")
UNCONDITIONAL = ("bigbigan", "ggan", "uncondgan")
KLISH = ["extractor.k0=12"]
LABELS4FREE = ["extractor.steps=10", "extractor.batch_size=4"]


def run(gen, extractor, folder, *options):
    for name in ("gsegkit_smp", f"gsegkit_{extractor}"):
        pytest.importorskip(name)
    options = [*TINY, *(CLASSES if gen in CONDITIONAL else ()), *options]
    return gsegkit.run(gen, extractor, "unet", out=folder, options=options, num_samples=64)


def check(result):
    """The run is whole, and its segmenter answers."""
    assert json.loads((result.folder / "run.json").read_text())["status"] == "done"
    segmenter = gsegkit.load(result.folder)
    masks = segmenter.predict(torch.zeros(1, 3, 48, 40, dtype=torch.uint8))
    assert masks.shape == (1, 48, 40)
    assert int(masks.max()) < len(segmenter.classes)


@pytest.mark.slow
@pytest.mark.parametrize("gen", [*CONDITIONAL, *UNCONDITIONAL])
def test_directions(gen, tmp_path):
    check(run(gen, "directions", tmp_path / "run", "extractor.steps=10", "extractor.batch_size=2"))


@pytest.mark.slow
@pytest.mark.parametrize("gen", [*CONDITIONAL, *UNCONDITIONAL])
@pytest.mark.parametrize(("extractor", "options"), [("klish", KLISH), ("labels4free", LABELS4FREE)])
def test_extractors_that_look_at_features(gen, extractor, options, tmp_path):
    check(run(gen, extractor, tmp_path / "run", *options))


def test_classes_by_name_without_their_names_are_refused_and_nothing_is_left(tmp_path):
    with pytest.raises(GsegkitError, match="cannot read the class names") as caught:
        run("sngan", "directions", tmp_path / "run", "gen.class_names=/no/such/file")
    assert caught.value.hint
    assert not (tmp_path / "run").exists()
