"""Checkpoints of other software: real ones when they are there, and made ones for what can go wrong."""

import collections
import io
import json
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from gsegkit_dcgan.config import DCGANConfig
from gsegkit_dcgan.dcgan import DCGAN
from gsegkit_dcgan.readers.layouts import NOT_SAID

from gsegkit import import_checkpoint
from gsegkit.api import load
from gsegkit.errors import ArtifactError, UnknownPluginError
from gsegkit.testing.data import data_root


def real(name: str) -> Path:
    root = data_root()
    folder = root.parent / "weights" / name if root else Path("absent")
    if not folder.is_dir():
        pytest.skip(f"weights '{name}' are not here")
    return folder


#: folder -> side, number of parameters of the generator, features
REAL = {
    "celeba32-dcgan": (32, 870_851, ((256, 4), (128, 4), (64, 8), (32, 16))),
    "cifar10-32-dcgan": (32, 299_043, ((128, 4), (64, 8), (32, 16))),
    "svhn32-dcgan": (32, 1_446_976, ((256, 4), (128, 8), (64, 16))),
    "mnist28-wgangp": (28, 747_841, ((256, 3), (128, 6), (64, 13))),
    "mnist28-dcgan": (28, 759_680, ((128, 7), (64, 14))),
}


@pytest.mark.parametrize("name", REAL)
def test_real_weights_sample(name):
    side, parameters, maps = REAL[name]
    generator = DCGAN(DCGANConfig(weights=str(real(name))))
    assert sum(p.numel() for p in generator.parameters()) == parameters
    names = tuple(spec.name for spec in generator.info.features)
    batch = generator.sample(torch.arange(64), features=names)
    assert batch.images.shape == (64, 3, side, side)
    assert tuple((batch.features[n].shape[1], batch.features[n].shape[2]) for n in names) == maps
    assert batch.images.abs().max() <= 1
    assert 0.2 < batch.images.std() < 0.8  # not grey, not saturated
    assert batch.images.std(dim=0).mean() > 0.15  # 64 different images
    assert "that of" in generator.licence or "data:" in generator.licence


@pytest.mark.parametrize("name", [n for n in REAL if n != "svhn32-dcgan"])
def test_prior_and_activations_reproduce_the_running_statistics(name):
    """A wrong prior, slope or orientation would shift what the normalisations see; trained ones remember it."""
    generator = DCGAN(DCGANConfig(weights=str(real(name))))
    x = generator.latents(torch.arange(2048))[:, :, None, None]
    with torch.no_grad():
        for layer in generator.layers[:-1]:
            x = layer.linear(x)
            variance, mean = torch.var_mean(x, dim=[0, 2, 3])
            stored = layer.norm.running_var
            assert (variance / stored).log().abs().mean() < 0.2
            assert ((mean - layer.norm.running_mean) / stored.sqrt()).abs().mean() < 0.2
            x = layer.finish(x)


def test_fixed_statistics_equal_batch_statistics():
    """SVHN: images of the frozen network are those of the original in a batch of 1024."""
    generator = DCGAN(DCGANConfig(weights=str(real("svhn32-dcgan"))))
    latents = generator.latents(torch.arange(1024))
    alone = generator.synthesize(latents[:4]).images
    generator.__dict__["network"].train()
    with torch.no_grad():
        together = generator.__dict__["network"](latents)[:4]
    assert (alone - together).abs().max() < 1e-3


def test_gradients_reach_the_latents():
    generator = DCGAN(DCGANConfig(weights=str(real("celeba32-dcgan"))))
    latents = generator.latents(torch.arange(3)).requires_grad_()
    generator.synthesize(latents).images[1].sum().backward()
    assert latents.grad[1].abs().sum() > 0
    assert latents.grad[0].abs().sum() == 0


def sequential(nz=6, widths=(8, 4), colours=3, kernel=4, root="main"):
    """A state dict of PyTorch's DCGAN example."""
    network, inputs = torch.nn.Sequential(), nz
    for i, width in enumerate(widths):
        place = (kernel, 1, 0) if i == 0 else (4, 2, 1)
        network.append(torch.nn.ConvTranspose2d(inputs, width, *place, bias=False))
        network.append(torch.nn.BatchNorm2d(width))
        network.append(torch.nn.ReLU())
        inputs = width
    network.append(torch.nn.ConvTranspose2d(inputs, colours, 4, 2, 1, bias=False))
    network.append(torch.nn.Tanh())
    generator = torch.Generator().manual_seed(0)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2, generator=generator)
        elif tensor.is_floating_point():
            tensor.normal_(std=0.3, generator=generator)
    return network.eval(), {f"{root}.{key}": value for key, value in network.state_dict().items()}


def save(path, state, zip_format=True):
    torch.save(state, path, _use_new_zipfile_serialization=zip_format)
    return DCGAN(DCGANConfig(weights=str(path)))


@pytest.mark.parametrize("zip_format", [True, False])
@pytest.mark.parametrize(("root", "kernel", "colours", "widths"), [("main", 4, 3, (8, 4)), ("net", 7, 1, (8, 4, 2))])
def test_sequential_layout_equals_the_module(tmp_path, zip_format, root, kernel, colours, widths):
    network, state = sequential(widths=widths, kernel=kernel, colours=colours, root=root)
    generator = save(tmp_path / "netG.pth", {"state_dict": state, "epoch": 3} if root == "net" else state, zip_format)
    latents = generator.latents(torch.arange(3))
    with torch.no_grad():
        want = network(latents[:, :, None, None]).expand(-1, 3, -1, -1)
    assert 0.05 < want.std() < 0.9  # neither flat nor saturated
    assert torch.allclose(generator.synthesize(latents).images, want, atol=1e-6)


def test_every_tensor_matters(tmp_path):
    _, state = sequential()
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        for changed in (None, torch.zeros(*tensor.shape, 2), tensor * torch.nan, tensor.long()):
            damaged = {key: value for key, value in state.items() if key != name}
            if changed is not None:
                damaged[name] = changed
            with pytest.raises(ArtifactError) as caught:
                save(tmp_path / "netG.pth", damaged)
            assert caught.value.hint
    with pytest.raises(ArtifactError, match=r"unexpected tensors: main\.9\.bias"):
        save(tmp_path / "netG.pth", {**state, "main.9.bias": torch.zeros(1)})


def test_what_is_no_dcgan_is_said(tmp_path):
    with pytest.raises(UnknownPluginError, match="not a file, not a folder, not a zoo name"):
        DCGAN(DCGANConfig(weights=str(tmp_path / "none.pt")))
    (tmp_path / "page.pt").write_bytes(b"<!DOCTYPE html><html></html>")
    with pytest.raises(ArtifactError, match="a web page"):
        DCGAN(DCGANConfig(weights=str(tmp_path / "page.pt")))
    with pytest.raises(ArtifactError, match=r"no checkpoint reader recognises .*1 tensors in the file itself \(weight"):
        save(tmp_path / "other.pt", {"weight": torch.zeros(2)})
    with pytest.raises(ArtifactError, match="a folder with 2 checkpoints"):
        DCGAN(DCGANConfig(weights=str(tmp_path)))
    _, state = sequential(colours=5)
    with pytest.raises(ArtifactError, match="5 x 16 x 16"):
        save(tmp_path / "five.pt", state)


def test_hostile_files_are_refused(tmp_path):
    import os
    import pickle

    class Payload:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    buffer = io.BytesIO()
    torch.save({"main.0.weight": Payload()}, buffer)
    for name, data in {"a.pt": pickle.dumps(Payload()), "b.pt": buffer.getvalue()}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ArtifactError, match=r"executable pickle \(posix.system\)"):
            DCGAN(DCGANConfig(weights=str(tmp_path / name)))
    assert not (tmp_path / "ran").exists()


def test_radford_arrays_of_wrong_ranks(tmp_path):
    for i in range(1, 11):
        np.save(tmp_path / f"200_gen_params.jl_{i:02d}.npy", np.zeros((2, 2), np.float32))
    with pytest.raises(ArtifactError, match="ranks"):
        DCGAN(DCGANConfig(weights=str(tmp_path)))


# ---- wrappings, and the two ways in --------------------------------------------------------------------------------


def tutorial(widths=(512, 256, 128, 64), nz=100):
    """A checkpoint as PyTorch's DCGAN tutorial leads to: both networks and their optimisers."""
    network, state = sequential(nz=nz, widths=widths)
    optimiser = {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 2e-4, "params": [0]}]}
    return network, {
        "epoch": 5,
        "netG_state_dict": state,
        "netD_state_dict": {"main.0.weight": torch.zeros(64, 3, 4, 4)},
        "optimizerG_state_dict": optimiser,
        "losses": [0.5, 0.25],
    }


def test_a_tutorial_checkpoint_in_a_file_called_tar(tmp_path):
    network, checkpoint = tutorial()
    assert checkpoint["netG_state_dict"]["main.0.weight"].shape == (100, 512, 4, 4)
    path = tmp_path / "weights.tar"
    torch.save(checkpoint, path)
    folder = import_checkpoint(path, tmp_path / "imported")
    direct, imported = (DCGAN(DCGANConfig(weights=str(place))) for place in (path, folder))
    latents = direct.latents(torch.arange(2))
    with torch.no_grad():
        want = network(latents[:, :, None, None])
    assert torch.allclose(direct.synthesize(latents).images, want, atol=1e-5)
    assert torch.equal(direct.synthesize(latents).images, imported.synthesize(latents).images)
    assert load(folder, "generator").info.height == 64
    assert json.loads((folder / "card.json").read_text())["layout"] == "DCGAN as one Sequential"


WRAPPINGS = (
    "netG_state_dict", "G_ema", "generator", "model", "models.generator_smooth", "state_dict", "params_ema", "net",
    "ema.model.generator", "a.b.c.d.e.f",
)  # fmt: skip


@pytest.mark.parametrize("path", WRAPPINGS)
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module.", "model.", "model.generator.", "my_gan.module."])
def test_a_state_dict_under_any_path(tmp_path, path, prefix):
    _, state = sequential()
    wrapped = {f"{prefix}{name}": tensor for name, tensor in state.items()}
    for key in reversed(path.split(".")):
        wrapped = {key: wrapped, "epoch": 3}
    generator = save(tmp_path / "checkpoint.pt", wrapped)
    assert torch.equal(generator.state_dict()["layers.0.op.weight"], state["main.0.weight"])
    assert generator.notes == (f"checkpoint.pt: {NOT_SAID}",)


class Holder:
    """An object of a training script."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class Table(dict):
    """A table of a class of its own, with attributes."""


def containers(state):
    table = Table(netG=state)
    table.step = 3
    return {
        "list": [state],
        "tuple": (state, {"losses": [0.5]}),
        "list under a key": {"models": [state, None]},
        "numbers as keys": {"g_ema": state, 5: 3},
        "a number": {0: state},
        "object": Holder(generator=state, step=3),
        "object under a key": {"trainer": Holder(nets={"G": state})},
        "defaultdict": collections.defaultdict(dict, {"models": {"netG": state}}),
        "table of its own class": table,
        "namespace": {"run": types.SimpleNamespace(netG=state)},
    }


@pytest.mark.parametrize("kind", containers({}))
def test_a_state_dict_in_any_container(tmp_path, kind):
    _, state = sequential()
    generator = save(tmp_path / "checkpoint.pt", containers(state)[kind])
    assert torch.equal(generator.state_dict()["layers.0.op.weight"], state["main.0.weight"])


def test_one_flat_table_of_several_networks(tmp_path):
    """As a LightningModule or a GAN module saves them: the networks are prefixes."""
    _, state = sequential()
    flat = {f"generator.{name}": tensor for name, tensor in state.items()}
    flat |= {f"discriminator.{name}": tensor + 1 for name, tensor in state.items()}
    for table in (flat, {f"model.{name}": tensor for name, tensor in flat.items()}):
        generator = save(tmp_path / "last.ckpt", {"state_dict": table, "epoch": 1})
        assert torch.equal(generator.state_dict()["layers.0.op.weight"], state["main.0.weight"])


def test_averaged_weights_are_taken_and_said(tmp_path):
    _, state = sequential()
    average = {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    for files in ({"netG": state, "netG_ema": average}, {"ema": {"generator": average}, "generator": state}):
        generator = save(tmp_path / "both.pt", files)
        assert torch.equal(generator.state_dict()["layers.0.op.weight"], average["main.0.weight"])
        assert "was taken, whose weights are averages" in generator.notes[-1]


@pytest.mark.filterwarnings("ignore")
def test_a_whole_module(tmp_path):
    network, state = sequential()
    whole = torch.nn.Module()
    whole.main = network
    torch.save({"generator": torch.nn.DataParallel(whole)}, tmp_path / "whole.pt")
    generator = DCGAN(DCGANConfig(weights=str(tmp_path / "whole.pt")))
    assert torch.equal(generator.state_dict()["layers.0.op.weight"], state["main.0.weight"])


@pytest.mark.filterwarnings("ignore")
def test_the_generator_of_a_whole_gan(tmp_path):
    """A module with both networks in it, saved as it is."""
    network, state = sequential()
    gan = torch.nn.Module()
    gan.discriminator, gan.generator = torch.nn.Module(), torch.nn.Module()
    gan.discriminator.main, gan.generator.main = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 4)), network
    for whole in (gan, torch.nn.DataParallel(gan)):
        torch.save(whole, tmp_path / "whole.pt")
        generator = DCGAN(DCGANConfig(weights=str(tmp_path / "whole.pt")))
        assert torch.equal(generator.state_dict()["layers.0.op.weight"], state["main.0.weight"])


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((4, 3, 32, 32), "layer 'main.0'"),
        ((4, 3, 4, 4), "a network of 1 layer"),
        ((0, 3, 4, 4), "main.0"),
    ],
)
def test_impossible_layers_are_refused_in_a_sentence(tmp_path, shape, words):
    with pytest.raises(ArtifactError) as caught:
        save(tmp_path / "net.pt", {"main.0.weight": torch.zeros(shape)})
    assert words in caught.value.message
    assert "\n" not in caught.value.message
    assert "validation" not in caught.value.message


def test_a_studio_gan_is_refused_with_what_was_looked_for(tmp_path):
    """PyTorch-StudioGAN: no reader recognises its networks; both ways say so, and what they looked for."""
    state = {
        "linear0.weight": torch.zeros(8, 4),
        "blocks.0.0.bn1.bn.weight": torch.zeros(4),
        "conv4.bias": torch.zeros(3),
    }
    path = tmp_path / "model=G-best-weights-step=1000.pth"
    torch.save({"state_dict": state, "step": 1000, "seed": 0, "run_name": "x"}, path)
    for attempt in (lambda: import_checkpoint(path), lambda: DCGAN(DCGANConfig(weights=str(path)))):
        with pytest.raises(
            ArtifactError, match=r"no checkpoint reader recognises .*3 tensors in 'state_dict' \(blocks.0.0"
        ) as caught:
            attempt()
        assert "dcgan: a torch file with main.0.weight" in caught.value.hint
    assert not path.with_suffix("").exists()


@pytest.mark.parametrize("name", REAL)
def test_real_weights_import(tmp_path, name):
    folder = real(name)
    made = import_checkpoint(folder, tmp_path / "imported")
    direct, imported = (DCGAN(DCGANConfig(weights=str(place))) for place in (folder, made))
    seeds = torch.arange(3)
    assert torch.equal(direct.sample(seeds).images, imported.sample(seeds).images)
    assert import_checkpoint(folder, made) == made  # again: nothing to do
    card = json.loads((made / "card.json").read_text())
    assert card["licence"] == direct.info.licence
    assert ("running statistics" in " ".join(card["notes"])) == (name == "svhn32-dcgan")
