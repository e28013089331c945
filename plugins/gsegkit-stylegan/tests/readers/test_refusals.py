"""Files of the family that are hostile, incomplete, modified, or of a network that is not supported."""

import pytest
import torch
from gsegkit_foreign.audit import audit
from gsegkit_stylegan.readers import layouts_stylegan2 as layouts
from gsegkit_stylegan.readers.detect import from_names, read_generator
from gsegkit_stylegan.readers.rules import write_layout

from gsegkit.errors import ArtifactError

TINY = {"resolution": 8, "channel_base": 64, "channel_max": 8, "z_dim": 6, "w_dim": 6, "mapping_layers": 2}
TARGET = "gsegkit_stylegan.readers.detect:read_generator"


@pytest.fixture(scope="module")
def tiny(make_network):
    return make_network(**TINY)


def refused(tmp_path, data, *words):
    path = tmp_path / "file.pkl"
    path.write_bytes(data)
    with pytest.raises(ArtifactError) as caught:
        read_generator(path)
    assert caught.value.hint
    assert "file.pkl" in caught.value.message
    for word in words:
        assert word in caught.value.message, caught.value.message
    return caught.value


def hostile_cases(writers, arch, state, canary):
    """Snapshots with a payload in each place where a pickle can hold one."""
    touch = f"touch {canary}"
    system = writers.Reduced(writers.Name("os", "system"), touch)
    unknown = writers.Reduced(writers.Name("evil_package.loader", "fetch"), "http://127.0.0.1:9")

    def with_part(change):
        module = writers.nvidia_module(arch, state)
        change(module)
        return writers.nvidia_pickle(arch, state, G_ema=module)

    block = lambda m: m.modules["synthesis"].modules["b8"]  # noqa: E731
    conv = lambda m: block(m).modules["conv0"]  # noqa: E731
    nested = writers.torch_saved  # a torch file inside a pickle, read again by a naive loader
    load = writers.Name("torch.storage", "_load_from_bytes")
    return {
        "in-kwargs": writers.nvidia_pickle(arch, state, training_set_kwargs=system),
        "in-augment": writers.nvidia_pickle(arch, state, augment_pipe=system),
        "in-discriminator": writers.nvidia_pickle(arch, state, D=system),
        "as-generator": writers.nvidia_pickle(arch, state, G_ema=system),
        "unknown-generator": writers.nvidia_pickle(arch, state, G_ema=unknown),
        "in-parameter": with_part(lambda m: conv(m).parameters.__setitem__("weight", system)),
        "unknown-parameter": with_part(lambda m: conv(m).parameters.__setitem__("weight", unknown)),
        "in-buffer": with_part(lambda m: conv(m).buffers.__setitem__("noise_const", system)),
        "in-module": with_part(lambda m: block(m).modules.__setitem__("conv0", system)),
        "unknown-module": with_part(lambda m: block(m).modules.__setitem__("conv0", unknown)),
        "in-attribute": with_part(lambda m: conv(m).attributes.__setitem__("conv_clamp", system)),
        "unknown-attribute": with_part(lambda m: conv(m).attributes.__setitem__("conv_clamp", unknown)),
        "in-hooks": with_part(lambda m: m.attributes.__setitem__("_forward_hooks", {1: system})),
        "nested-storage": with_part(
            lambda m: conv(m).parameters.__setitem__("bias", writers.Reduced(load, writers.dumps(system, 2)))
        ),
        "nested-file": with_part(
            lambda m: conv(m).parameters.__setitem__("bias", writers.Reduced(load, nested({"a": torch.zeros(1)}, False)))
        ),
        "tensorflow-component": writers.dumps((system, system, system)),
        "tensorflow-variable": writers.dumps(
            (writers.tf_network("G", {}, {}), writers.tf_network("D", {}, {}), writers.tf_network("Gs", {"w": system}, {}))
        ),
        "rosinality-args": writers.dumps({"g_ema": {}, "args": writers.Instance(writers.Name("argparse", "Namespace"), state={"f": system})}),
        "wrong-meta": writers.dumps({"G_ema": writers.Reduced(writers.Name("torch_utils.persistence", "_reconstruct_persistent_obj"), {"type": "module"})}),
    }  # fmt: skip


def test_hostile_snapshots(writers, tiny, tmp_path):
    arch, network = tiny
    canary = tmp_path / "ran"
    cases = hostile_cases(writers, arch, network.state_dict(), canary)
    patched = writers.SOURCE
    try:
        writers.SOURCE = f"import os\nos.system('touch {canary}')\n"  # what the original loader would execute
        cases["patched-source"] = writers.nvidia_pickle(arch, network.state_dict())
        cases["patched-source-tf"] = writers.tf_pickle(arch, network.state_dict())
    finally:
        writers.SOURCE = patched
    cases["honest"] = writers.nvidia_pickle(arch, network.state_dict())
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
    rows = audit(TARGET, [tmp_path / "honest"], [tmp_path / name for name in cases])
    assert set(rows) == set(cases)
    read = {"patched-source", "patched-source-tf", "honest"}
    wrong = {n: (r.outcome, r.message) for n, r in rows.items() if r.outcome != ("read" if n in read else "refused")}
    assert wrong == {}
    assert {n: r.events for n, r in rows.items() if r.events} == {}
    assert max(r.grown for r in rows.values()) < 100 << 20
    assert not canary.exists()
    assert "evil_package.loader.fetch" in rows["unknown-parameter"].message


LAYOUTS = {
    "nvidia": layouts.nvidia,
    "rosinality": layouts.rosinality,
    "genforce": layouts.genforce,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_tensor_matters(tiny, layout):
    """Each tensor missing, misshapen, not finite, or not of floats: refused, and named."""
    _, network = tiny
    flat = write_layout(network.state_dict(), LAYOUTS[layout])
    average = flat.pop("latent_avg", None)
    for name, tensor in flat.items():
        noise = "noise" in name
        changes = {
            "missing": None,
            "misshapen": torch.zeros(*tensor.shape, 2),
            "infinite": torch.full_like(tensor, float("inf")),
            "integer": tensor.long(),
        }
        for kind, changed in changes.items():
            if kind == "missing" and noise:
                continue  # files without noise exist; it is filled in and noted
            damaged = {**flat, name: changed}
            if changed is None:
                del damaged[name]
            with pytest.raises(ArtifactError):
                from_names(damaged, average)


def test_messages_name_the_first_differences(tiny):
    _, network = tiny
    flat = dict(network.state_dict())
    del flat["mapping.fc1.bias"]
    flat["synthesis.b8.conv0.bias"] = torch.zeros(3)
    flat["surplus"] = torch.zeros(1)
    with pytest.raises(ArtifactError) as caught:
        from_names(flat)
    assert "missing 'mapping.fc1.bias'" in caught.value.message
    assert "unexpected 'surplus'" in caught.value.message
    flat = dict(network.state_dict())
    flat["synthesis.b8.conv0.bias"] = torch.zeros(3)
    with pytest.raises(ArtifactError, match=r"'synthesis.b8.conv0.bias' has shape \[3\], expected \[8\]"):
        from_names(flat)


@pytest.mark.parametrize(
    ("attribute", "module", "value", "words"),
    [
        ("activation", "conv0", "relu", "'activation' is 'lrelu' and 'relu' in different layers"),
        ("conv_clamp", "conv0", 8.0, "conv_clamp"),
        ("up", "conv0", 1, "up-samples by 1"),
        ("architecture", None, "orig", "architecture"),
    ],
)
def test_modified_modules(writers, tiny, tmp_path, attribute, module, value, words):
    arch, network = tiny
    tree = writers.nvidia_module(arch, network.state_dict())
    block = tree.modules["synthesis"].modules["b8"]
    (block.modules[module] if module else block).attributes[attribute] = value
    refused(tmp_path, writers.nvidia_pickle(arch, network.state_dict(), G_ema=tree), words)


def test_modified_gains(writers, tiny, tmp_path):
    arch, network = tiny
    tree = writers.nvidia_module(arch, network.state_dict())
    tree.modules["mapping"].modules["fc0"].attributes["weight_gain"] = 1.0
    refused(tmp_path, writers.nvidia_pickle(arch, network.state_dict(), G_ema=tree), "gains")


def test_modules_without_end(writers, tmp_path):
    deep = tree = writers.NvidiaModule("Generator")
    for _ in range(30):
        child = writers.NvidiaModule("Generator")
        deep.modules["next"], deep = child, child
    refused(tmp_path, writers.dumps({"G_ema": tree}), "deep")
    many = writers.NvidiaModule("Generator")
    for i in range(6_000):
        many.modules[f"m{i}"] = None
        many.buffers[f"m{i}"] = None
    refused(tmp_path, writers.dumps({"G_ema": many}), "no generator of the family")
    table = {f"m{i}": None for i in range(9_000)}  # one table, shared by many modules: small on disk, large to walk
    shared = writers.NvidiaModule("Generator")
    for i in range(5):
        child = shared.modules[f"c{i}"] = writers.NvidiaModule("Generator")
        child.buffers = table
    refused(tmp_path, writers.dumps({"G_ema": shared}), "more than 20000 parts")
    named = writers.NvidiaModule("Generator")
    named.modules["n" * 300] = None
    refused(tmp_path, writers.dumps({"G_ema": named}), "more than 256 characters")
    variables = {f"v{i}": 0.0 for i in range(9_000)}
    parts = {f"c{i}": writers.tf_network("part", variables, {}) for i in range(5)}
    networks = [writers.tf_network(name, {}, {}, parts if name == "Gs" else None) for name in ("G", "D", "Gs")]
    refused(tmp_path, writers.dumps(tuple(networks)), "more than 20000 variables")
    loop = writers.NvidiaModule("Generator")
    loop.modules["self"] = writers.Reduced(writers.Name("some", "thing"))
    refused(tmp_path, writers.dumps({"G_ema": loop}), "some.thing")


def test_other_networks_are_named(writers, tmp_path):
    refused(tmp_path, writers.torch_saved({"main.0.weight": torch.zeros(2)}), "1 tensors", "main.0.weight")
    refused(tmp_path, writers.torch_saved({"optimizer": {}, "step": 3}), "optimizer")
    refused(tmp_path, writers.torch_saved([1, 2, 3]), "list of 3")
    theano = writers.Instance(writers.Name("network", "Network"), state={"param_values": []})
    refused(tmp_path, writers.dumps((theano, theano, theano)), "Theano")
    old = writers.tf_network("Gs", {"synthesis/ToRGB_lod0/weight": torch.zeros(1).numpy()}, {})
    refused(tmp_path, writers.dumps((old, old, old)), "config A to D")


def test_widths_without_a_rule(tiny, make_network):
    _, network = make_network(**{**TINY, "resolution": 32, "channel_base": 256, "channel_max": 64})
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert state["synthesis.b8.conv1.weight"].shape[0] == 32
    state["synthesis.b8.conv1.weight"] = torch.zeros(20, 20, 3, 3)
    with pytest.raises(ArtifactError, match="no base / resolution rule: 20 channels at 8 px"):
        from_names(state)
