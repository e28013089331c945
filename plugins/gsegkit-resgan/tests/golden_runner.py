"""Golden vectors without foreign code: tensors filled by a closed form, sixteen pixels compared.

The recipe is in the project's facts; in short: number j of tensor t is a hash of both, a rule says what becomes of it.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).with_name("golden")
LATENTS = 1_000_000  # number of the latents' tensor


def load(family: str) -> dict[str, dict]:
    """Cases by name, each with `lines`: [(name, shape, rule)] in state-dict order."""
    cases = {case["name"]: case for case in json.loads((FOLDER / f"{family}.json").read_text())["cases"]}
    for case in cases.values():
        case["lines"] = _lines(case, cases)
        digest = hashlib.sha256("".join(f"{n} {','.join(map(str, s))}\n" for n, s, _ in case["lines"]).encode())
        assert digest.hexdigest() == case["digest"], f"{case['name']}: other names or sizes than the reference's"
    return cases


def _lines(case, cases):
    tensors = case["tensors"]
    if isinstance(tensors, list):
        return [_line(text) for text in tensors]
    other = cases[tensors.split("same as ")[-1].split("names and order of ")[-1].split(",")[0]]
    lines = [_line(text) for text in other["tensors"]]
    return lines if tensors.startswith("same") else _scaled(lines, other["config"], case["config"])


def _line(text):
    name, shape, rule = text.split(" ")
    return name, () if shape == "-" else tuple(map(int, shape.split(","))), rule


def _scaled(lines, small, large):
    """Sizes of another configuration of the same network: channels grow by one factor, the rest is looked up."""
    width = next(key for key in ("G_ch", "channel_width", "g_conv_dim", "nfilter") if key in small)
    factor = large[width] // small[width]
    inputs = _inputs(small), _inputs(large)
    found = []
    for name, shape, rule in lines:
        if rule == "V":
            size = found_shape(found, name.removesuffix("_v") + "_orig")
            shape = (math.prod(size[1:]),)
        else:
            shape = tuple(_length(name, shape, i, factor, *inputs) for i in range(len(shape)))
        found.append((name, shape, rule))
    return found


def found_shape(lines, name):
    return next(shape for other, shape, _ in lines if other == name)


def _inputs(config):
    """(classes, class vector, first layer, map) of a configuration."""
    classes = config.get("n_classes") or config.get("num_classes") or config.get("nlabels")
    vector = next(
        (config[k] for k in ("shared_dim", "g_shared_dim", "embed_size") if isinstance(config.get(k), int)), 0
    )
    z = config["z_dim"] if "z_dim" in config else config["dim_z"]
    if "channel_width" in config:
        return {"classes": classes, "vector": z, "first": 2 * z, "map": 2 * z}
    if "nfilter" in config:
        return {
            "classes": classes,
            "vector": vector,
            "first": z + (vector if config["conditioning"] == "embedding" else 0),
        }
    if not vector:
        return {"classes": classes, "first": z}
    side = config.get("resolution") or config["img_size"]
    chunk = z // (side.bit_length() - 2)
    return {"classes": classes, "vector": vector, "first": chunk, "map": vector + chunk}


def _length(name, shape, axis, factor, small, large):
    kind = name.rpartition(".")[2]
    if axis >= 2 or kind.startswith("sv") or kind in ("num_batches_tracked", "sigma", "gamma"):
        return shape[axis]
    if name.startswith(("output_layer.2.", "conv2d5.", "conv_img.")) and axis == (1 if kind == "u0" else 0):
        return shape[axis]  # colours
    if name in ("shared.weight", "get_latent.embedding.weight"):
        return large["vector" if axis else "classes"]
    if name == "embeddings.weight":
        return large["classes" if axis else "vector"]
    if kind.startswith("weight") and axis == 1 and name.startswith(("linear", "fc.", "generator.gen_z.")):
        return large["first"]
    if "embed" in name and axis == 0 and kind != "weight_v":
        return large["classes"]
    mapped = any(part in name for part in (".gain.", ".bias.", ".scale.", ".offset.")) and kind.startswith("weight")
    if mapped and axis == 1 and "map" in small:
        return large["map"]
    if kind == "u0" or ("running_" in name and len(shape) == 2):
        return shape[axis] * factor if axis == 1 else shape[axis]
    return shape[axis] * factor


def numbers(tensor: int, count: int) -> np.ndarray:
    """u in [0, 1), `count` of them."""
    old = np.seterr(over="ignore")
    x = np.arange(1, count + 1, dtype=np.uint64) + np.uint64(tensor * 2**32)
    for factor in (0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93):
        x *= np.uint64(factor)
        x ^= x >> np.uint64(32)
    np.seterr(**old)
    return (x >> np.uint64(11)).astype(np.float64) / 2.0**53


def fill(case) -> dict[str, torch.Tensor]:
    """The state dict of a case, float64 (counters int64)."""
    constants = case["fill"]
    state: dict[str, torch.Tensor] = {}
    pairs = []
    for t, (name, shape, rule) in enumerate(case["lines"]):
        if rule in "UV":
            pairs += [(name, t)] if rule == "U" else []
            state[name] = torch.empty(0)  # keeps the order
            continue
        u = numbers(t, math.prod(shape))
        state[name] = torch.from_numpy(_value(rule, u, shape, constants)).reshape(shape)
        if rule == "0":
            state[name] = state[name].long()
    for name, t in pairs:
        stem = name.removesuffix("_u")
        weight = state[f"{stem}_orig"]
        matrix = weight.reshape(len(weight), -1)
        u = torch.from_numpy(2 * numbers(t, len(weight)) - 1)
        for _ in range(3):
            v = matrix.t() @ u
            v = v / v.norm()
            u = matrix @ v
            u = u / u.norm()
        state[name], state[f"{stem}_v"] = u * constants.get("cu", 1), v * constants.get("cv", 1)
    for name, check in case.get("fill_check", {}).items():
        values = state[name].double().reshape(-1)
        got = [float(values[0]), float(values.sum()), float(values.square().sum())]
        assert np.allclose(got, [check["first"], check["sum"], check["sumsq"]], rtol=1e-7, atol=1e-7), name
    return state


def _value(rule, u, shape, constants):
    v = 2 * u - 1
    if rule.startswith("c="):
        return np.full(u.shape, float(rule[2:]))
    return {
        "w": lambda: v * math.sqrt(3 / math.prod(shape[1:])) * constants.get("w", 1),
        "e": lambda: v * constants.get("e", 1),
        "e3": lambda: 0.3 * v,
        "b": lambda: 0.1 * v,
        "g": lambda: 1 + 0.25 * v,
        "m": lambda: 0.2 * v,
        "s": lambda: constants["var"] * (0.5 + u),
        "a": lambda: np.full(u.shape, 0.7),
        "u": lambda: v,
        "0": lambda: np.zeros(u.shape),
        "1": lambda: np.ones(u.shape),
    }[rule]()


def latents(count: int, z_dim: int) -> torch.Tensor:
    return torch.from_numpy((2 * numbers(LATENTS, count * z_dim) - 1) * math.sqrt(3)).reshape(count, z_dim)


def distance(images: torch.Tensor, output) -> float:
    """Largest difference from the golden pixels, mean and deviation."""
    pairs = [(float(images[i, c, y, x]), value) for i, c, y, x, value in output["pixels"]]
    pairs += [(float(images.mean()), output["mean"]), (float(images.std(correction=0)), output["std"])]
    return max(abs(a - b) for a, b in pairs)


def sum_distance(images: torch.Tensor, output) -> float:
    """Relative difference of the sum of all sizes: no pixel is left out. It is stored with nine digits."""
    assert list(images.shape) == output["shape"]
    return abs(float(images.abs().sum()) / output["abs_sum"] - 1)


def feature_distance(maps: dict[str, torch.Tensor], output) -> float:
    """The same for the features: mean, deviation and one number of each."""
    worst = 0.0
    for name, (shape, mean, std, middle) in output["features"].items():
        got = maps[name]
        assert list(got.shape[1:]) == shape, name
        numbers_ = (float(got.mean()), float(got.std(correction=0)), float(got.reshape(-1)[got.numel() // 2]))
        worst = max(worst, *(abs(a - b) / max(1.0, abs(b)) for a, b in zip(numbers_, (mean, std, middle), strict=True)))
    return worst
