"""`fid`, `kid` and `precision-recall` with an Inception of random weights in the published file's layout."""

import hashlib
import pickle

import gsegkit_eval
import numpy as np
import pytest
import torch
from gsegkit_eval.config import INCEPTION_SHA256
from gsegkit_eval.frechet import frechet_distance

from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.toy import Toy
from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import ArtifactError, ConfigError, DataError, MissingDependencyError
from gsegkit.images import to_pixels, write_png
from gsegkit.plugins import Registry
from gsegkit.seeds import sample_seeds

fidelity = pytest.importorskip("torch_fidelity")
from torch_fidelity import feature_extractor_inceptionv3 as theirs  # noqa: E402

REGISTRY = Registry()
REGISTRY.add(gsegkit_eval, "gsegkit-eval")
NAMES = ("fid", "kid", "precision-recall")


class Flat(Toy):
    """The toy without layers."""

    def synthesize(self, *args, **kwargs):
        batch = super().synthesize(*args, **kwargs)
        return type(batch)(batch.images, batch.latents, batch.labels, batch.seeds)


def refused_download(*args, **kwargs):
    raise AssertionError("it wants to download")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A file of random weights whose features vary, its sha256."""
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theirs, "load_state_dict_from_url", lambda *args, **kwargs: None)
        patch.setattr(theirs.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        network = theirs.FeatureExtractorInceptionV3("random", ["2048"])
    generator = torch.Generator().manual_seed(0)
    for name, tensor in network.state_dict().items():
        if name.endswith("conv.weight"):  # keeps the spread from layer to layer
            torch.nn.init.kaiming_normal_(tensor, generator=generator)
    torch.save(network.state_dict(), path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def photographs(folder, count=9, size=24, seed=5):
    for i, row in enumerate(
        to_pixels(Toy(ToyConfig(size=size)).sample(sample_seeds(seed, "validation", 0, count)).images)
    ):
        write_png(folder / f"{i:03d}.png", row)
    return UnlabelledImages(tuple(sorted(folder.glob("*.png"))))


def build(name, **options):
    return REGISTRY.build("generator-evaluator", name, options)


def test_a_file_of_the_users_own(file, tmp_path, monkeypatch):
    monkeypatch.setattr(theirs, "load_state_dict_from_url", refused_download)
    path, sha256 = file
    images = photographs(tmp_path / "photographs")
    before = torch.get_rng_state()
    report = build("precision-recall", weights=str(path), sha256=sha256, num_samples=8, num_images=8).evaluate(
        Flat(ToyConfig(size=24)), images, RunContext(tmp_path / "never-written")
    )
    assert torch.equal(before, torch.get_rng_state())
    labels = {f"{name}({sha256[:8]}){end}" for name in ("precision", "recall") for end in ("", "_halves")}
    assert set(report.metrics) == {*labels, "num_samples", "num_images"}  # not what the published network's are called
    assert (report.metrics["num_samples"], report.metrics["num_images"]) == (8, 8)
    assert set(report.definitions) == set(report.metrics)
    assert "not the published Inception" in report.notes[0]
    assert not (tmp_path / "never-written").exists()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_numbers_are_those_of_torch_fidelitys_own_command(file, tmp_path):
    """Of the very pictures, as files; and the layers are scored too."""
    path, sha256 = file
    count = 10
    images = photographs(tmp_path / "photographs", count)
    toy, ctx = Toy(ToyConfig(size=24)), RunContext(tmp_path, seed=3)
    made = {"": [], "_background": [], "_foreground": []}
    for seeds in ctx.batches("test", count):
        batch = toy.sample(seeds)
        for end, pictures in zip(made, (batch.images, *batch.layers.values()), strict=True):
            made[end].append(to_pixels(pictures))
    assert [f"_{name}" for name in toy.sample(seeds).layers] == list(made)[1:]
    options = {"weights": str(path), "sha256": sha256, "num_samples": count}
    ours = {name: build(name, **options).evaluate(toy, images, ctx).metrics for name in NAMES}
    for end in ("", "_background"):
        folder = tmp_path / f"made{end}"
        for i, row in enumerate(torch.cat(made[end])):
            write_png(folder / f"{i:03d}.png", row)
        expected = fidelity.calculate_metrics(
            input1=str(folder), input2=str(tmp_path / "photographs"), cuda=False, fid=True, prc=True, cache=False,
            feature_extractor="inception-v3-compat", feature_extractor_weights_path=str(path), verbose=False,
        )  # fmt: skip
        tail = f"({sha256[:8]}){end}"
        assert ours["fid"][f"fid{tail}"] == pytest.approx(expected["frechet_inception_distance"], rel=1e-3)
        assert ours["precision-recall"][f"precision{tail}"] == pytest.approx(expected["precision"])
        assert ours["precision-recall"][f"recall{tail}"] == pytest.approx(expected["recall"])
        assert np.isfinite(ours["kid"][f"kid{tail}"])


# ---- the scores, on features -----------------------------------------------------------------------------------------


def two_sets(count=40, dim=6):
    rng = np.random.default_rng(0)
    one, other = rng.standard_normal((count, dim)), rng.standard_normal((count + 10, dim)) * 1.5 + 0.5
    return torch.from_numpy(one).float(), torch.from_numpy(other).float()


def test_fid_is_the_frechet_distance(tmp_path):
    one, other = two_sets()
    found = build("fid").scores(one, other, RunContext(tmp_path))
    assert found["fid"] == pytest.approx(frechet_distance(one.double().numpy(), other.double().numpy()), rel=1e-4)


def test_kid_by_its_formula(tmp_path):
    """One subset of everything: the unbiased estimate with the kernel (x y / D + 1)^3."""
    one, other = two_sets()
    other = other[: len(one)]
    found = build("kid", subsets=1).scores(one, other, RunContext(tmp_path))
    kernels = [(a @ b.T / 6 + 1) ** 3 for a, b in ((one, one), (other, other), (one, other))]
    n = len(one)
    own = [float(k.sum() - k.trace()) / (n * (n - 1)) for k in kernels[:2]]
    assert found["kid"] == pytest.approx(sum(own) - 2 * float(kernels[2].mean()), rel=1e-4)
    assert found["kid_std"] == 0
    some = {"subsets": 5, "subset_size": 10}
    again = [build("kid", **some).scores(one, other, RunContext(tmp_path, seed=seed)) for seed in (0, 0, 1)]
    assert again[0] == again[1] != again[2]
    assert again[0]["kid_std"] > 0


def test_precision_and_recall_by_hand(tmp_path):
    """Made: a tight cluster inside the photographs' left half; they have a second half that nothing covers."""
    made = torch.tensor([[0.0], [0.1], [0.2]])
    real = torch.tensor([[-1.0], [0.15], [1.0], [10.0], [11.0], [12.0]])
    found = build("precision-recall", neighbours=1).scores(made, real, RunContext(tmp_path))
    assert found == {"precision": 1.0, "recall": pytest.approx(1 / 6)}
    found = build("precision-recall", neighbours=1).scores(real, made, RunContext(tmp_path))
    assert found == {"precision": pytest.approx(1 / 6), "recall": 1.0}
    with pytest.raises(DataError, match="3 images have no 3 neighbours") as caught:
        build("precision-recall").scores(made, real, RunContext(tmp_path))
    assert caught.value.hint == "lower eval.neighbours"


# ---- the file --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_without_a_file_it_says_which_and_downloads_nothing(name, tmp_path, monkeypatch):
    monkeypatch.setattr(theirs, "load_state_dict_from_url", refused_download)
    images = photographs(tmp_path / "photographs")
    toy, ctx = Toy(ToyConfig(size=24)), RunContext(tmp_path)
    with pytest.raises(ConfigError, match="nothing is downloaded") as caught:
        build(name).evaluate(toy, images, ctx)
    assert "weights-inception-2015-12-05-6726825d.pth" in caught.value.hint
    with pytest.raises(ArtifactError, match="is not a file"):
        build(name, weights=str(tmp_path / "none.pth")).evaluate(toy, images, ctx)


def test_a_file_with_another_sha256_is_not_opened(file, tmp_path):
    images = photographs(tmp_path / "photographs")
    toy, ctx = Toy(ToyConfig(size=24)), RunContext(tmp_path)
    with pytest.raises(ArtifactError, match="is not the published file") as caught:
        build("fid", weights=str(file[0])).evaluate(toy, images, ctx)
    assert file[1] in str(caught.value)
    assert INCEPTION_SHA256 in str(caught.value)
    with pytest.raises(ArtifactError, match=r"is not what eval\.sha256 says"):
        build("fid", weights=str(file[0]), sha256="0" * 64).evaluate(toy, images, ctx)
    with pytest.raises(ConfigError, match="sha256"):
        build("fid", sha256="6726825d")


class Evil:
    def __reduce__(self):
        return (exec, ("raise AssertionError('executed')",))


def test_a_file_that_would_run_code_is_read_as_data(tmp_path):
    images = photographs(tmp_path / "photographs")
    for name, content in (("evil", {"a": Evil()}), ("other", {"a": torch.zeros(3)})):
        path = tmp_path / f"{name}.pth"
        torch.save(content, path)
        options = {"weights": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        with pytest.raises(ArtifactError):
            build("fid", **options).evaluate(Toy(ToyConfig(size=24)), images, RunContext(tmp_path))
    with pytest.raises(AssertionError, match="executed"):  # the file is what it claims to be
        pickle.loads(pickle.dumps(Evil()))


def test_too_few_photographs(tmp_path):
    with pytest.raises(DataError, match="7 photographs are too few"):
        build("fid").evaluate(Toy(ToyConfig(size=24)), photographs(tmp_path / "few", 7), RunContext(tmp_path))


def test_without_torch_fidelity_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("gsegkit.plugins._module_exists", lambda name: name != "torch_fidelity")
    with pytest.raises(MissingDependencyError, match="'fid' needs the package 'torch_fidelity'") as caught:
        build("fid")
    assert caught.value.hint == "pip install 'gsegkit-eval[fid]'"
