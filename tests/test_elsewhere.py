"""The pretended GPU refuses what a true one refuses; and parts work on it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from gsegkit.context import RunContext
from gsegkit.distributed.team import Team
from gsegkit.engine.devices import pick_device
from gsegkit.engine.synthesis import synthesize
from gsegkit.testing import fixtures
from gsegkit.testing.elsewhere import MixedDevices, pretended
from gsegkit.testing.processes import together

ROOT = Path(__file__).parents[1]


@pytest.fixture
def gpu():
    with pretended():
        yield torch.device("cuda")


MIXED = {
    "add": lambda there, here: there + here,
    "in place": lambda there, here: here.add_(there),
    "cat": lambda there, here: torch.cat([there, here]),
    "linear": lambda there, here: F.linear(there, torch.ones(2, 2)),
    "a view": lambda there, here: there.view(2, 2).t() @ here[None],
    "where": lambda there, here: torch.where(here > 0, there, there),
    "out": lambda there, here: torch.add(there, there, out=here),
    "rows of the GPU of a CPU tensor": lambda there, here: here[there.long()],
    "a chosen value": lambda there, here: there.__setitem__(torch.tensor([0, 1]), here[:2]),
    "numpy": lambda there, here: there.numpy(),
    "a gradient": lambda there, here: torch.nn.Parameter(there).square().sum().backward() or there.grad + here,
    "random numbers": lambda there, here: torch.randn(3, device="cuda", generator=torch.Generator()),
    "an index of the GPU's": lambda there, here: torch.index_select(here, 0, there.long()),
    "an output that the CPU made": lambda there, here: torch.zeros_like(there) + torch.zeros(4),
}


@pytest.mark.parametrize("name", MIXED)
def test_a_mix_of_devices_fails(name, gpu):
    there, here = torch.arange(4.0).to(gpu), torch.ones(4)
    if name == "a gradient":
        weight = torch.nn.Parameter(there)
        weight.square().sum().backward()
        with pytest.raises(MixedDevices):
            weight.grad + here
        return
    with pytest.raises((MixedDevices, IndexError), match=r"cuda:0|the generator"):
        MIXED[name](there, here)


def test_what_a_gpu_allows_passes(gpu):
    there, here = torch.arange(4.0, device=gpu), torch.ones(4)
    assert (there * torch.tensor(2.0)).device.type == "cuda", "a number of the CPU's"
    assert there[torch.tensor([1, 2])].is_cuda, "indices of the CPU's"
    assert torch.equal(there.cpu()[:2] + here[:2], torch.tensor([1.0, 2.0]))
    assert there.cpu().numpy().tolist() == [0, 1, 2, 3]
    assert not here.is_cuda, "a copy does not move the original"
    assert here.copy_(there).device.type == "cpu"
    there[1:3] = here[1:3]
    there[0] = 5.0
    assert there.tolist() == [5, 1, 2, 3]
    assert there.to(torch.float16).device == there.to(here.device).to(there).device == torch.device("cuda", 0)
    assert torch.randn(2, device=gpu, generator=torch.Generator("cuda").manual_seed(3)).is_cuda
    layer = torch.nn.Linear(4, 2).to(gpu)
    layer(there).sum().backward()
    assert (layer.weight - layer.weight.grad).is_cuda
    assert {value.device.type for value in layer.state_dict().values()} == {"cuda"}
    assert pick_device("cuda").type == "cuda"


def test_without_it_nothing_is_elsewhere(gpu):
    left = torch.zeros(2, device=gpu)
    assert left.is_cuda


def test_pairs_made_there_are_those_made_here(registry, tmp_path):
    def made(folder, device):
        toy = registry.build("generator", "toy", {"size": 16}).to(device)
        native = registry.build("extractor", "native").to(device)
        native.fit(toy, RunContext(folder, device))
        synthesize(toy, native, (), 20, RunContext(folder, device))
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    here = made(tmp_path / "here", torch.device("cpu"))
    with pretended():
        assert made(tmp_path / "there", torch.device("cuda")) == here


@pytest.mark.parametrize(("name", "index"), [("cuda", 1), ("auto", 1), ("cuda:0", 0)])
def test_tensors_of_others_arrive_on_the_device_of_a_process(name, index, gpu, monkeypatch):
    """Five processes on two GPUs talk over gloo, so that nobody else says which GPU is whose."""
    team = Team()
    team.size, team.local_rank = 5, 3
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device(name, team) == torch.device("cuda", index)
    assert torch.cuda.set_device.call_args.args == (torch.device("cuda", index),)


def test_two_processes_cluster_there_as_one_without(tmp_path):
    klish = pytest.importorskip("gsegkit_klish.klish")
    config = klish.KlishConfig(k0=8, kmeans="torch", num_images=8, pixels_per_image=40)

    def fit(team):
        with pretended() as there:
            device = pick_device("cuda", team)
            extractor = klish.Klish(config).to(device)
            extractor.fit(fixtures.toy().to(device), RunContext(tmp_path, device, batch_size=4, team=team))
            assert not team.first or there.there(extractor.weight)
            return [] if not team.first else extractor.weight.tolist()

    alone = klish.Klish(config)
    alone.fit(fixtures.toy(), RunContext(tmp_path, batch_size=4))
    found = torch.tensor(together(2, fit)[0])
    torch.testing.assert_close(found, alone.weight, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_that_is_tested_on_a_gpu_passes_on_a_pretended_one():
    environment = {**os.environ, "GSEGKIT_TEST_DEVICE": "pretended"}
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "gpu", "tests/gpu", "--tb=short"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stdout[-4000:]
