"""Honest files and tensors that are not read: what they are, and how to make something that is."""

from __future__ import annotations

from collections.abc import Collection

from gsegkit_foreign.limits import refuse

_PLAIN = "save a plain state dict: torch.save(model.state_dict(), path)"

_SPREAD = ("a checkpoint whose tensors are spread over several devices", f"gather them, then {_PLAIN}")

#: A call that rebuilds a tensor which is not a plain one -> what it is, and how to make it plain.
TENSORS: dict[str, tuple[str, str]] = {
    "torch._utils._rebuild_sparse_tensor": ("a sparse tensor", "save tensor.to_dense() instead"),
    "torch._utils._rebuild_sparse_csr_tensor": ("a sparse tensor", "save tensor.to_dense() instead"),
    "torch._utils._rebuild_qtensor": ("a quantised tensor", "save tensor.dequantize() instead"),
    "torch._utils._rebuild_tensor_v3": ("a tensor of an unusual number type", "save tensor.float() instead"),
    "torch._utils._rebuild_nested_tensor": ("a nested tensor", "save tensors of one shape instead"),
    "torch._utils._rebuild_meta_tensor_no_storage": (
        "a tensor without data (device 'meta')",
        "load the weights into the model before it is saved",
    ),
    "torch._tensor._rebuild_from_type_v2": ("a tensor of a class of its own", _PLAIN),
    "torch._utils._rebuild_wrapper_subclass": ("a tensor of a class of its own", _PLAIN),
}

#: Modules that only files of one kind mention -> what the file is, and how to make one that is read.
_MODULES: dict[str, tuple[str, str]] = {
    "joblib.numpy_pickle": ("a joblib file", "only torch, pickle, npy and safetensors are read"),
    "joblib.numpy_pickle_compat": ("a joblib file", "only torch, pickle, npy and safetensors are read"),
    "torch.distributed._tensor": _SPREAD,
    "torch.distributed.tensor": _SPREAD,
    "torch.distributed._shard": _SPREAD,
    "torch.jit._pickle": ("a TorchScript program", _PLAIN),
    "torch.jit._script": ("a TorchScript program", _PLAIN),
    "__torch__": ("a TorchScript program", _PLAIN),
}

#: The end of a name that only one kind of zip holds -> what it is, and how to make something that is read.
_ARCHIVES: tuple[tuple[str, str, str], ...] = (
    ("/constants.pkl", "a TorchScript program, not a checkpoint", _PLAIN),
    ("/archive_format", "a program of torch.export, not a checkpoint", _PLAIN),
    ("/.data/extern_modules", "a torch.package archive, not a checkpoint", _PLAIN),
    ("model.weights.h5", "a Keras model", "only torch, pickle, npy and safetensors are read"),
)


def refuse_module(module: str) -> None:
    """Say what a pickle is that mentions this module, if only files of one known kind do."""
    for known, (what, hint) in _MODULES.items():
        if module == known or module.startswith(f"{known}."):
            refuse(f"{what}, which mentions '{module[:60]}'", hint)


def refuse_archive(names: Collection[str]) -> None:
    """Say what a zip with entries of these names is, if it is of a known kind that is not read."""
    for end, what, hint in _ARCHIVES:
        if any(name.endswith(end) for name in names):
            refuse(what, hint)
    if names and all(name.endswith(".npy") for name in names):
        refuse("a NumPy archive (.npz), not a checkpoint", "save its arrays under their names with torch.save")


def refuse_tensor(call: str, name: str) -> None:
    """Say what the tensor called `name` is, when it is of a known kind that is not read."""
    if call in TENSORS:
        what, hint = TENSORS[call]
        refuse(f"'{name[:80]}' is {what}; only dense tensors of plain numbers are read", hint)
