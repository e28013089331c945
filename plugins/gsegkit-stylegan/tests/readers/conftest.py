import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from gsegkit_stylegan.config import StyleGAN2Arch
from gsegkit_stylegan.networks.stylegan2 import StyleGAN2Network


@pytest.fixture(scope="session")
def writers():
    """The module that writes files as other software does."""
    return _module("writers")


@pytest.fixture(scope="session")
def originals():
    """The module of networks that compute as other software does."""
    return _module("originals")


def _module(name):
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"stylegan_reader_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def randomised(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """A network in which every tensor matters: biases, noise strengths and the mean are not zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.1)
    return network.eval()


@pytest.fixture(scope="session")
def make_network():
    """Options of the architecture -> (arch, network with random weights)."""

    def make(**options):
        torch.manual_seed(0)
        arch = StyleGAN2Arch(**options)
        return arch, randomised(StyleGAN2Network(arch))

    return make
