"""Every golden case: tensors of the original names, read, folded and run, against the original networks' pixels."""

import importlib.util
import resource
import sys
from pathlib import Path

import pytest
import torch
from gsegkit_resgan.config import NewClassBigResNet
from gsegkit_resgan.generator import ResidualGenerator
from gsegkit_resgan.network import Network, statistics_at
from gsegkit_resgan.readers.biggan import biggan_deep_hf, biggan_pytorch
from gsegkit_resgan.readers.detect import read_generator
from gsegkit_resgan.readers.selfcond import selfcond
from gsegkit_resgan.readers.studio import studiogan

spec = importlib.util.spec_from_file_location("resgan_golden_runner", Path(__file__).with_name("golden_runner.py"))
golden = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = golden
spec.loader.exec_module(golden)

READ = {
    "biggan-ajbrock": biggan_pytorch,
    "biggan-deep-hf": biggan_deep_hf,
    "studiogan": studiogan,
    "selfcond": selfcond,
}
FAMILIES = {family: golden.load(family) for family in READ}
CASES = [(family, name) for family, cases in FAMILIES.items() for name in cases]
FULL = [pair for pair in CASES if "full" in pair[1]]
#: In double precision the attention over maps of 128 px takes 2 GB.
SLOW = ("biggan256-tiny",)
TINY = [
    pytest.param(*pair, marks=pytest.mark.slow if pair[1] in SLOW else (), id=pair[1])
    for pair in CASES
    if pair not in FULL
]
EXACT, SINGLE = 1e-9, 2e-4  # the facts allow 1e-8 and 2e-5 for the reference's own rounding


def read(family, case, state):
    if case["name"].endswith("-standing"):
        state = {n: t * 16 if n.endswith(("stored_mean", "stored_var")) else t for n, t in state.items()}
    options = {}
    if family == "biggan-ajbrock":
        options = {"eps": case["config"]["BN_eps"], "unconditional": case["name"].startswith("bigbigan")}
    return READ[family](state, **options)


def network_of(found, dtype):
    with torch.device("meta"):
        network = Network(found.arch)
    network.load_state_dict({name: tensor.to(dtype) for name, tensor in found.state.items()}, assign=True)
    return network.eval().requires_grad_(False)


def run(network, case, output, dtype, added=False):
    arch = network.arch
    labels = torch.tensor(case["labels"])
    z = golden.latents(len(labels), arch.z_dim) * output.get("truncation", 1)
    at = statistics_at(output.get("truncation", 1.0), arch.statistics, output.get("statistics") != "interpolated")
    labels = labels.clamp(max=arch.num_classes - 1) if arch.num_classes else None
    taps = network.taps()
    with taps.open(taps.names) as maps:
        images = network(z.to(dtype), labels, at=at, added=added)
    return images, maps


def theirs(family, arch, maps):
    """Feature maps under the original names."""
    names, entry = {}, 0
    for name, i, behind, _, _ in arch.features():
        if family == "biggan-ajbrock":
            names[f"blocks.{i}.{int(behind)}"] = maps[name]
        elif family == "selfcond":
            names[f"resnet_{i // 2}_1"] = maps[name]
        else:
            names[f"blocks.{entry}.0" if family == "studiogan" else f"layers.{entry}"] = maps[name]
            entry += 1
    return names


def outputs(case):
    return case.get("outputs") or [case["output"]]


def check(family, name):
    case = FAMILIES[family][name]
    found = read(family, case, golden.fill(case))
    for dtype, tolerance in ((torch.float64, EXACT), (torch.float32, SINGLE)):
        network = network_of(found, dtype)
        for output in outputs(case)[: None if dtype == torch.float64 else 1]:
            images, maps = run(network, case, output, dtype)
            assert golden.distance(images, output) < tolerance
            assert golden.sum_distance(images, output) < max(tolerance, 1e-8)
            if dtype == torch.float64 and "features" in output:
                known = theirs(family, found.arch, maps)
                wanted = {n: v for n, v in output["features"].items() if n in known}
                assert len(wanted) == len(known)
                assert golden.feature_distance(known, {"features": wanted}) < 2e-8
    return found


@pytest.mark.parametrize(("family", "name"), TINY)
def test_tiny(family, name):
    check(family, name)


def test_what_biggan_pytorch_makes_of_cross_replica():
    case = FAMILIES["biggan-ajbrock"]["biggan128-tiny-crossreplica"]
    found = read("biggan-ajbrock", case, golden.fill(case))
    assert found.arch.cross_replica
    assert any("cross_replica=add" in note for note in found.notes)
    images, _ = run(network_of(found, torch.float64), case, case["output"], torch.float64, added=True)
    assert golden.distance(images, case["output_of_reference_eval_bug"]) < EXACT
    assert golden.distance(images, case["output"]) > 0.1


@pytest.mark.parametrize(
    ("family", "name", "options", "number"),
    [
        ("biggan-deep-hf", "biggan-deep-128-tiny", {"truncation": 0.425}, 3),
        ("biggan-deep-hf", "biggan-deep-128-tiny", {"truncation": 0.425, "statistics": "reference"}, 2),
        ("biggan-ajbrock", "biggan128-tiny-crossreplica", {"cross_replica": "add"}, None),
    ],
    ids=["interpolated", "reference", "added"],
)
def test_options_reach_the_network_of_a_file(tmp_path, family, name, options, number):
    case = FAMILIES[family][name]
    output = case["output_of_reference_eval_bug"] if number is None else outputs(case)[number]
    state = {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in golden.fill(case).items()}
    torch.save(state, tmp_path / "G_ema.pth")
    generator = OfFile(NewClassBigResNet(weights=str(tmp_path / "G_ema.pth"), **options))
    z = golden.latents(2, generator.arch.z_dim) * options.get("truncation", 1)
    images = generator.synthesize(z.float(), torch.tensor(case["labels"])).images
    assert golden.distance(images, output) < SINGLE
    assert float(generator.latents(torch.arange(50)).abs().max()) <= 2 * options.get("truncation", 9)


class OfFile(ResidualGenerator):
    """As the plugin's, which may not be installed beside this library."""

    name = "biggan"

    def __init__(self, config):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gsegkit_resgan.generator.load_weights", self.take)
            super().__init__(config)

    @staticmethod
    def take(part, name, weights):
        found = read_generator(weights)
        part.restore({"arch": found.arch.model_dump(), "licence": found.licence})
        part.load_state_dict({key: tensor.float() for key, tensor in found.state.items()})


@pytest.mark.slow
@pytest.mark.parametrize(("family", "name"), FULL, ids=[name for _, name in FULL])
def test_full_size(family, name, record_property):
    """Up to 100 M weights; the peak was 2.4 GB, most of it the tensors in double precision."""
    found = check(family, name)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    record_property("parameters", sum(tensor.numel() for tensor in found.state.values()))
    record_property("peak_mib_so_far", peak)
    print(f"{name}: peak memory so far {peak} MiB")
    assert peak < 4000
