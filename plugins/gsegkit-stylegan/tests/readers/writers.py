"""Files as other software writes them, with random weights. No code of theirs is needed: names are only written."""

from __future__ import annotations

import io
import math
import pickle
from argparse import Namespace
from collections import OrderedDict
from typing import ClassVar

import numpy as np
import torch
from gsegkit_stylegan.networks.stylegan3 import plans
from gsegkit_stylegan.readers import layouts_grown as grown
from gsegkit_stylegan.readers import layouts_stylegan2 as layouts
from gsegkit_stylegan.readers.rules import write_layout

SOURCE = "raise SystemExit('the source text of a checkpoint was executed')\n"


class Name:
    """A global that the pickle names; it need not exist. Callable, because pickle insists."""

    def __init__(self, module: str, name: str):
        self.module, self.name = module, name

    def __call__(self, *args):
        raise AssertionError("never called")


class Instance:
    """An object of a named class, made by NEWOBJ, with items or a state."""

    def __init__(self, cls: Name, items: dict | None = None, state: dict | None = None):
        self.cls, self.items, self.state = cls, items, state


class Reduced:
    """A call of a named function."""

    def __init__(self, func: Name, *args):
        self.func, self.args = func, args

    def __reduce__(self):
        return self.func, self.args


class Writer(pickle._Pickler):
    """A pickler that writes names and instances of classes that are not there."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_name(self, name: Name):
        if self.proto >= 4:
            self.save(name.module)
            self.save(name.name)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(pickle.GLOBAL + f"{name.module}\n{name.name}\n".encode())

    def save_instance(self, instance: Instance):
        self.save(instance.cls)
        self.save(())
        self.write(pickle.NEWOBJ)
        self.memoize(instance)
        if instance.items is not None:
            self._batch_setitems(instance.items.items())
        if instance.state is not None:
            self.save(instance.state)
            self.write(pickle.BUILD)

    dispatch[Name] = save_name
    dispatch[Instance] = save_instance


def dumps(value, protocol: int = 4) -> bytes:
    buffer = io.BytesIO()
    Writer(buffer, protocol).dump(value)
    return buffer.getvalue()


def torch_saved(value, zip_format: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zip_format)
    return buffer.getvalue()


def easy(**items) -> Instance:
    return Instance(Name("dnnlib.util", "EasyDict"), items)


# ---- NVIDIA, PyTorch ---------------------------------------------------------------------------------------------


class NvidiaModule:
    """A module that reduces as NVIDIA's persistent classes do: class name, source text, state."""

    def __init__(self, class_name: str, **attributes):
        self.class_name, self.attributes = class_name, attributes
        self.parameters: dict = OrderedDict()
        self.buffers: dict = OrderedDict()
        self.modules: dict = OrderedDict()

    def state(self) -> dict:
        return {
            "training": False,
            "_parameters": self.parameters,
            "_buffers": self.buffers,
            "_non_persistent_buffers_set": set(),
            "_backward_hooks": OrderedDict(),
            "_forward_hooks": OrderedDict(),
            "_modules": self.modules,
            "_init_args": (),
            "_init_kwargs": easy(synthesis_kwargs=easy(num_fp16_res=4)),
            **self.attributes,
        }

    def __reduce__(self):
        meta = easy(type="class", version=6, module_src=SOURCE, class_name=self.class_name, state=self.state())
        return Name("torch_utils.persistence", "_reconstruct_persistent_obj"), (meta,)

    def put(self, name: str, tensor: torch.Tensor, buffer: bool):
        if buffer:
            self.buffers[name] = tensor
        else:
            self.parameters[name] = torch.nn.Parameter(tensor)


def nvidia_module(arch, state) -> NvidiaModule:
    """The module tree of a stylegan2-ada-pytorch generator."""
    taps = torch.tensor(arch.resample_filter)
    kernel = torch.outer(taps, taps) / taps.sum() ** 2
    root = NvidiaModule("Generator", z_dim=arch.z_dim, c_dim=arch.num_classes, w_dim=arch.w_dim)
    for name, tensor in state.items():
        module = root
        *path, leaf = name.split(".")
        for depth, part in enumerate(path):
            full = ".".join(path[: depth + 1])
            module = module.modules.setdefault(part, _nvidia_part(arch, full, state))
        module.put(leaf, tensor.clone(), buffer=leaf in ("w_avg", "noise_const"))
    usual = torch.tensor([1.0, 3.0, 3.0, 1.0])
    for block in root.modules["synthesis"].modules.values():
        block.buffers["resample_filter"] = kernel.clone()
        for name, layer in block.modules.items():
            if name in ("conv0", "skip"):
                layer.buffers["resample_filter"] = kernel.clone()
            if name == "conv1":  # their option does not reach it, and it does not use it
                layer.buffers["resample_filter"] = torch.outer(usual, usual) / 64
    return root


def _nvidia_part(arch, name: str, state) -> NvidiaModule:
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "mapping":
        return NvidiaModule("MappingNetwork", z_dim=arch.z_dim, w_dim=arch.w_dim, num_layers=arch.mapping_layers)
    if leaf == "synthesis":
        return NvidiaModule("SynthesisNetwork", img_resolution=arch.resolution, img_channels=3)
    if leaf in ("conv0", "conv1"):
        up = 2 if leaf == "conv0" else 1
        return NvidiaModule(
            "SynthesisLayer", up=up, activation="lrelu", conv_clamp=arch.conv_clamp, act_gain=np.sqrt(2), use_noise=True
        )
    if leaf == "torgb":
        return NvidiaModule("ToRGBLayer", conv_clamp=arch.conv_clamp)
    if leaf == "skip":
        return NvidiaModule("Conv2dLayer", up=2, activation="linear", conv_clamp=arch.conv_clamp)
    if leaf.startswith("b") and leaf[1:].isdigit():
        return NvidiaModule(
            "SynthesisBlock",
            resolution=int(leaf[1:]),
            architecture=arch.architecture,
            use_fp16=int(leaf[1:]) >= 16,
            is_last=int(leaf[1:]) == arch.resolution,
        )
    lr = arch.lr_multiplier if leaf.startswith("fc") else 1.0
    inputs = state[f"{name}.weight"].shape[1]
    return NvidiaModule(
        "FullyConnectedLayer",
        activation="lrelu" if leaf.startswith("fc") else "linear",
        weight_gain=lr / np.sqrt(inputs) if leaf.startswith("fc") else lr / math.sqrt(inputs),
        bias_gain=lr,
    )


def nvidia_pickle(arch, state, protocol: int = 4, **changes) -> bytes:
    """A snapshot: G, D, G_ema, augment_pipe, training_set_kwargs."""
    ema = nvidia_module(arch, state)
    noise = {name: torch.randn_like(tensor) for name, tensor in state.items()}
    snapshot = {
        "G": nvidia_module(arch, noise),
        "D": NvidiaModule("Discriminator", img_resolution=arch.resolution),
        "G_ema": ema,
        "augment_pipe": NvidiaModule("AugmentPipe", xflip=0.0, p=np.float32(0.5)),
        "training_set_kwargs": easy(class_name="training.dataset.ImageFolderDataset", path="/data/x.zip", xflip=True),
    }
    return dumps({**snapshot, **changes}, protocol)


def nvidia3_module(arch, state) -> NvidiaModule:
    """The module tree of a StyleGAN3 generator of the stylegan3 repository."""
    layers = plans(arch)
    root = NvidiaModule("Generator", z_dim=arch.z_dim, c_dim=arch.num_classes, w_dim=arch.w_dim)
    buffers = ("w_avg", "transform", "freqs", "phases", "magnitude_ema", "up_filter", "down_filter")
    for name, tensor in state.items():
        module = root
        *path, leaf = name.split(".")
        for part in path:
            module = module.modules.setdefault(part, _nvidia3_part(arch, part, layers.get(part)))
            if part == "affine":
                module.attributes |= {"activation": "linear", "bias_gain": 1}
        module.put(leaf, tensor.clone(), buffer=leaf in buffers)
    for name, module in root.modules["mapping"].modules.items():
        inputs = state[f"mapping.{name}.weight"].shape[1]
        lr = arch.lr_multiplier if name.startswith("fc") else 1.0
        module.attributes |= {"activation": "lrelu" if name.startswith("fc") else "linear"}
        module.attributes |= {"weight_gain": lr / np.sqrt(inputs), "bias_gain": lr}
    return root


def _nvidia3_part(arch, name: str, plan) -> NvidiaModule:
    if plan is not None:
        first, last = plan.padding
        return NvidiaModule(
            "SynthesisLayer", is_torgb=plan.to_rgb, conv_clamp=256, up_factor=plan.up, down_factor=plan.down,
            padding=[first, last, first, last], in_size=np.array([plan.before.size] * 2), in_cutoff=np.float64(plan.before.cutoff),
        )  # fmt: skip
    if name == "input":
        return NvidiaModule("SynthesisInput", sampling_rate=np.float64(16), bandwidth=np.float64(2), channels=3)
    if name == "synthesis":
        options = {"num_critical": 2, "margin_size": 10, "output_scale": 0.25, "num_layers": 14}
        return NvidiaModule("SynthesisNetwork", img_resolution=arch.resolution, **options)
    return NvidiaModule("MappingNetwork" if name == "mapping" else "FullyConnectedLayer")


def nvidia3_pickle(arch, state, **changes) -> bytes:
    """A snapshot of StyleGAN3: G, D, G_ema, augment_pipe, training_set_kwargs."""
    noise = {name: torch.randn_like(tensor) for name, tensor in state.items()}
    snapshot = {
        "G": nvidia3_module(arch, noise),
        "D": NvidiaModule("Discriminator", img_resolution=arch.resolution),
        "G_ema": nvidia3_module(arch, state),
        "augment_pipe": None,
        "training_set_kwargs": easy(class_name="training.dataset.ImageFolderDataset", path="/data/x.zip", xflip=True),
    }
    return dumps({**snapshot, **changes})


# ---- NVIDIA, TensorFlow ------------------------------------------------------------------------------------------


def tf_network(name: str, variables: dict, kwargs: dict, components: dict | None = None, version: int = 4) -> Instance:
    return Instance(
        Name("dnnlib.tflib.network", "Network"),
        state={
            "version": version,
            "name": name,
            "static_kwargs": easy(**kwargs),
            "components": easy(**(components or {})),
            "build_module_src": SOURCE,
            "build_func_name": "G_main",
            "variables": list(variables.items()),
        },
    )


def tf_pickle(arch, state, protocol: int = 4) -> bytes:
    """(G, D, Gs) of a TensorFlow StyleGAN2."""
    flat = write_layout(state, layouts.tensorflow_joint if arch.joint_labels else layouts.tensorflow)
    arrays = {name: tensor.numpy() for name, tensor in flat.items()}
    arrays = {name: array if array.ndim else np.float32(array) for name, array in arrays.items()}
    kwargs = {
        "num_channels": 3,
        "resolution": arch.resolution,
        "label_size": arch.num_classes,
        "truncation_psi": 0.5,
        "conv_clamp": arch.conv_clamp,
        "resample_kernel": list(arch.resample_filter),
        "mapping_lrmul": arch.lr_multiplier,
        "epsilon": np.float32(1e-8),
    }

    def part(prefix: str) -> dict:
        return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}

    components = {name: tf_network(name, part(f"{name}/"), kwargs) for name in ("mapping", "synthesis")}
    top = {"lod": np.float32(0), **{n: a for n, a in arrays.items() if "/" not in n}}
    third = tf_network("Gs", top, kwargs, components)
    first = tf_network("G", {}, {})
    return dumps((first, tf_network("D", {}, {}), third), protocol)


# ---- rosinality, genforce ----------------------------------------------------------------------------------------


def _outer(arch, image_filter=None) -> torch.Tensor:
    taps = torch.tensor(image_filter or arch.resample_filter)
    return torch.outer(taps, taps) / taps.sum() ** 2


def rosinality_file(arch, state, training: bool = False, zip_format: bool = True) -> bytes:
    """A converted file, or one of the training script (with optimisers and a Namespace)."""
    flat = write_layout(state, layouts.rosinality)
    average = flat.pop("latent_avg")
    for i in range(len(arch.resolutions) - 1):
        flat[f"convs.{2 * i}.conv.blur.kernel"] = _outer(arch) * 4
        flat[f"to_rgbs.{i}.upsample.kernel"] = _outer(arch, arch.image_filter) * 4
    if not training:
        return torch_saved({"g_ema": OrderedDict(flat), "latent_avg": average}, zip_format)
    return torch_saved(
        {
            "g": {name: torch.randn_like(tensor) for name, tensor in flat.items()},
            "d": {"convs.0.0.weight": torch.zeros(1, 1)},
            "g_ema": OrderedDict(flat),
            "g_optim": {
                "state": {0: {"step": torch.tensor(3.0)}},
                "param_groups": [{"lr": 0.002, "betas": (0.0, 0.99)}],
            },
            "args": Namespace(path="/data", size=arch.resolution, mixing=0.9),
            "ada_aug_p": np.float64(0.25),
        },
        zip_format,
    )


def genforce_file(arch, state, zip_format: bool = True) -> bytes:
    """A file with generator, discriminator and the averaged generator."""
    flat = write_layout(state, layouts.genforce)
    flat["synthesis.upsample.kernel"] = _outer(arch)[None, None] * 4
    for j in range(1, 2 * len(arch.resolutions) - 1, 2):
        flat[f"synthesis.layer{j}.filter.kernel"] = _outer(arch)[None, None] * 4
    other = {name: torch.randn_like(tensor) for name, tensor in flat.items()}
    return torch_saved({"generator": other, "discriminator": {}, "generator_smooth": OrderedDict(flat)}, zip_format)


# ---- StyleGAN v1 and PGGAN ---------------------------------------------------------------------------------------


def _grown_layout(factory, arch, fused):
    style = hasattr(arch, "w_dim")
    return factory(arch.resolution, fused, style=style)


def grown_tf_pickle(arch, state, fused, protocol: int = 4, lod: float = 0.0, **kwargs) -> bytes:
    """(G, D, Gs) of a TensorFlow StyleGAN (version 3, with components) or PGGAN (version 2, flat)."""
    style = hasattr(arch, "w_dim")
    flat = write_layout(state, _grown_layout(grown.tensorflow, arch, fused))
    arrays = {name: tensor.numpy() for name, tensor in flat.items()}
    root = "synthesis/" if style else ""
    arrays[f"{root}ToRGB_lod1/weight"] = np.zeros((1, 1, 7, 3), np.float32)  # of a smaller stage: not used
    arrays[f"{root}ToRGB_lod1/bias"] = np.zeros(3, np.float32)
    arrays[f"{root}lod"] = np.float32(lod)
    kwargs = {"num_channels": 3, "resolution": arch.resolution, "label_size": arch.num_classes, **kwargs}
    if not style:

        def network(name, variables):
            state = {"version": 2, "name": name, "static_kwargs": kwargs, "build_module_src": SOURCE}
            state |= {"build_func_name": "G_paper", "variables": list(variables.items())}
            return Instance(Name("tfutil", "Network"), state=state)

        return dumps((network("G", {}), network("D", {}), network("Gs", arrays)), protocol)

    def part(prefix: str) -> dict:
        return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}

    components = {n: tf_network(n, part(f"{n}/"), kwargs, version=3) for n in ("mapping", "synthesis")}
    top = {n: a for n, a in arrays.items() if "/" not in n}
    third = tf_network("Gs", top, kwargs, components, version=3)
    first = tf_network("G", {}, {}, version=3)
    return dumps((first, tf_network("D", {}, {}, version=3), third), protocol)


def grown_genforce_file(arch, state, fused, old: bool = False, zip_format: bool = True) -> bytes:
    """A genforce file of a StyleGAN or PGGAN, in the current or the older layout."""
    style = hasattr(arch, "w_dim")
    flat = write_layout(state, _grown_layout(grown.genforce_old if old else grown.genforce, arch, fused))
    root = "synthesis." if style else ""
    flat[f"{root}lod"] = torch.zeros(())
    blocks = len(arch.resolutions)
    for i in range(blocks - 1):
        leaf = "conv.weight" if old else "weight"
        flat[f"{root}output{i}.{leaf}"] = torch.zeros(3, 7, 1, 1)
        flat[f"{root}output{i}.{'wscale.bias' if old and not style else 'bias'}"] = torch.zeros(3)
        if style:
            flat[f"{root}layer{2 * i + 2}.blur.kernel"] = torch.ones(7, 1, 3, 3) / 9
    if old and style:
        flat["truncation.truncation"] = torch.ones(1, 2 * blocks, 1)
    content = OrderedDict(flat) if old else {"generator": {}, "generator_smooth": OrderedDict(flat)}
    return torch_saved(content, zip_format)
