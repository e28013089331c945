"""The plain readings that our generators are timed beside give the original networks' pixels."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

pytest.importorskip("gsegkit_eval", reason="benchmarks need every plugin")

from gsegkit_stylegan.config import StyleGAN3Arch  # noqa: E402

from benchmarks.protocols import generators, readings3, readings_resnet  # noqa: E402
from benchmarks.protocols.common import Lab  # noqa: E402
from gsegkit.errors import GsegkitError  # noqa: E402

EXACT = 1e-9  # in double precision


def module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.mark.parametrize("name", ["stylegan3-t-tiny", "stylegan3-r-tiny"])
def test_stylegan3(name):
    golden = module(ROOT / "plugins/gsegkit-stylegan/tests/golden_cases.py")
    case = next(case for case in golden.read("stylegan3.json")["cases"] if case["name"] == name)
    config, output = case["config"], case["output"]
    sizes = config["synthesis"]
    arch = StyleGAN3Arch(
        resolution=config["img_resolution"], z_dim=config["z_dim"], w_dim=config["w_dim"],
        channel_base=sizes["channel_base"], channel_max=sizes["channel_max"],
        variant="r" if sizes["use_radial_filters"] else "t",
    )  # fmt: skip
    state, z = golden.state(case), golden.latents(output["shape"][0], arch.z_dim)
    w, average = readings3.mapping(state, arch, z), state["mapping.w_avg"]
    images = readings3.synthesis(state, arch, average + case["truncation_psi"] * (w - average))
    assert list(images.shape) == output["shape"]
    assert max(abs(float(images[n, c, y, x]) - value) for n, c, y, x, value in output["pixels"]) < EXACT
    assert float(images.abs().sum()) == pytest.approx(output["abs_sum"], rel=1e-8)


@pytest.mark.parametrize(
    ("family", "name", "reading", "z_dim"),
    [
        ("biggan-ajbrock", "biggan128-tiny", readings_resnet.biggan, 120),
        ("studiogan", "legacy-resnet-cbn-tiny", readings_resnet.sngan, 16),
    ],
)
def test_residual_networks(family, name, reading, z_dim):
    golden = module(ROOT / "plugins/gsegkit-resgan/tests/golden_runner.py")
    case = golden.load(family)[name]
    state, labels = golden.fill(case), torch.tensor(case["labels"])
    z = golden.latents(len(labels), z_dim)
    images = reading(state, z, labels)
    assert golden.distance(images, case["output"]) < EXACT
    assert golden.sum_distance(images, case["output"]) < 1e-8
    before = readings_resnet.folded(state)
    assert not any(key.endswith("u0") for key in before)
    assert float((reading(before, z, labels) - images).abs().max()) < EXACT


def test_a_reading_that_makes_other_images_is_not_timed(tmp_path, monkeypatch):
    ways = {"ours": lambda: torch.ones(1), "plain": lambda: torch.full((1,), 1.001)}
    monkeypatch.setitem(generators.WAYS, "small", lambda network, batch: ways)
    lab, runs = Lab(tmp_path, torch.device("cpu"), tiny=True), [{"network": "small", "batch": 1}]
    with pytest.raises(GsegkitError, match="other images than ours"):
        generators.paired(lab, runs, 1)
    ways["plain"] = ways["ours"]
    assert [row["difference"] for row in generators.paired(lab, runs, 1)["rows"]] == [0.0, 0.0]
