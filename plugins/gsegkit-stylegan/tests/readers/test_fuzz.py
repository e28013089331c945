"""Random damage to checkpoints of the family: only ArtifactError leaves, or the network is complete."""

import random

import pytest
from gsegkit_stylegan.config import PGGANArch, StyleGAN2Arch, StyleGANArch
from gsegkit_stylegan.networks.pggan import PGGANNetwork
from gsegkit_stylegan.networks.stylegan import StyleGANNetwork
from gsegkit_stylegan.networks.stylegan2 import StyleGAN2Network
from gsegkit_stylegan.readers.detect import read_generator

from gsegkit.errors import ArtifactError

SIZE = {"resolution": 8, "channel_base": 32, "channel_max": 4, "z_dim": 3}
STYLE = {**SIZE, "w_dim": 3, "mapping_layers": 1}


def stylegan2(write, **options):
    arch = StyleGAN2Arch(**STYLE, **options)
    return write(arch, StyleGAN2Network(arch).state_dict())


def grown(write, network, arch):
    return write(arch, network(arch).state_dict(), lambda r: False)


FILES = {
    "nvidia": lambda w: stylegan2(w.nvidia_pickle),
    "tensorflow": lambda w: stylegan2(w.tf_pickle, demod_gain_first=True),
    "rosinality": lambda w: stylegan2(w.rosinality_file, demod_gain_first=True),
    "genforce": lambda w: stylegan2(w.genforce_file, demod_gain_first=True),
    "stylegan": lambda w: grown(w.grown_tf_pickle, StyleGANNetwork, StyleGANArch(**STYLE)),
    "pggan": lambda w: grown(w.grown_genforce_file, PGGANNetwork, PGGANArch(**SIZE)),
}


def mutate(data: bytes, rng: random.Random) -> bytes:
    mutant = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at, length = rng.randrange(len(mutant)), rng.choice((1, 2, 8, 32))
        kind = rng.randrange(6)
        if kind == 0:
            mutant[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            mutant[at] = rng.choice(b"\x00\xff.(]}Rbqt0123")
        elif kind == 2:
            del mutant[at : at + length]
        elif kind == 3:
            mutant[at:at] = mutant[at : at + length]
        elif kind == 4:
            source = rng.randrange(len(mutant))
            mutant[at : at + length] = mutant[source : source + length]
        else:
            mutant[at : at + length] = rng.randbytes(length)
    return bytes(mutant)


def fuzz(path, data, seed, count):
    rng = random.Random(seed)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(count):
        path.write_bytes(mutate(data, rng))
        try:
            read_generator(path)
            outcomes["read"] += 1
        except ArtifactError:
            outcomes["refused"] += 1
    return outcomes


@pytest.mark.parametrize("layout", FILES)
def test_only_artifact_errors_leave(tmp_path, writers, layout):
    assert fuzz(tmp_path / "file", FILES[layout](writers), layout, 100)["refused"] > 10


@pytest.mark.slow
@pytest.mark.parametrize("layout", FILES)
def test_only_artifact_errors_leave_long(tmp_path, writers, layout):
    assert fuzz(tmp_path / "file", FILES[layout](writers), f"{layout} long", 3_000)["refused"] > 300
