"""Random damage to checkpoints of the family: only ArtifactError leaves, or the network is complete."""

import random

import pytest
from gsegkit_stylegan.readers import read_generator

from gsegkit.errors import ArtifactError

TINY = {"resolution": 8, "channel_base": 32, "channel_max": 4, "z_dim": 3, "w_dim": 3, "mapping_layers": 1}
FILES = {
    "nvidia": ("nvidia_pickle", False),
    "tensorflow": ("tf_pickle", True),
    "rosinality": ("rosinality_file", True),
    "genforce": ("genforce_file", True),
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
def test_only_artifact_errors_leave(tmp_path, writers, make_network, layout):
    writer, gain_first = FILES[layout]
    arch, network = make_network(**TINY, demod_gain_first=gain_first)
    data = getattr(writers, writer)(arch, network.state_dict())
    assert fuzz(tmp_path / "file", data, layout, 100)["refused"] > 10


@pytest.mark.slow
@pytest.mark.parametrize("layout", FILES)
def test_only_artifact_errors_leave_long(tmp_path, writers, make_network, layout):
    writer, gain_first = FILES[layout]
    arch, network = make_network(**TINY, demod_gain_first=gain_first)
    data = getattr(writers, writer)(arch, network.state_dict())
    assert fuzz(tmp_path / "file", data, f"{layout} long", 3_000)["refused"] > 300
