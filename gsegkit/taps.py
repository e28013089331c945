"""Capture and edit named activations of a network while it runs.

    taps = Taps({"b8": self.b8, "const": self.const_tap})
    with taps.open(capture=("b8",), edits={"const": torch.zeros_like}) as captured:
        images = self.network(latents)
    features = captured["b8"]

Hooks are there inside the `with` block only, whatever happens in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from gsegkit.errors import CapabilityError, ContractError

Edit = Callable[[Tensor], Tensor]


class TapPoint(nn.Identity):
    """A place that an activation passes through although no layer makes it.

    A Parameter, such as StyleGAN's constant input, has no forward() that a hook could reach: its network writes
    `const = self.const_tap(self.const.expand(n, -1, -1, -1))` and declares `const_tap` as a tap.
    """


@dataclass(frozen=True)
class Tap:
    """Where a named activation is: the output of `module`, or item `index` of its output when that is a tuple."""

    module: nn.Module
    index: int | None = None


class Taps:
    """The declared activations of a network: name -> module, `TapPoint` or `Tap`.

    Names are declared once, by the network's author, so that users do not depend on module paths. The table is not a
    module: the network owns what it points to.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> taps = Taps({"hidden": network[0]})
        >>> with taps.open(capture=["hidden"], edits={"hidden": torch.zeros_like}) as found:
        ...     network(torch.ones(1, 2)).sum().item()
        0.0
        >>> found["hidden"].shape
        torch.Size([1, 3])
    """

    def __init__(self, points: Mapping[str, nn.Module | Tap]) -> None:
        self._points = {name: p if isinstance(p, Tap) else Tap(p) for name, p in points.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """The declared names, in order."""
        return tuple(self._points)

    @contextmanager
    def open(self, capture: Iterable[str] = (), edits: Mapping[str, Edit] | None = None) -> Iterator[dict[str, Tensor]]:
        """Hook the named activations during the block.

        An activation that is both edited and captured is captured after its edit. Nothing is detached.

        Args:
            capture: names whose activations are collected.
            edits: name -> function from the activation to a tensor of the same shape and dtype that replaces it.

        Yields:
            A dictionary that the block's forward pass fills: name -> activation.

        Raises:
            ContractError: unknown name to capture; an activation that is not a tensor, is made twice in one block,
                or is not made at all; an edit that returns anything but a tensor of the same shape and dtype.
            CapabilityError: unknown name to edit.
        """
        wanted, edits = tuple(dict.fromkeys(capture)), dict(edits or {})
        self._check_names(wanted, edits)
        captured: dict[str, Tensor] = {}
        seen: set[str] = set()
        with ExitStack() as hooks:
            for name in dict.fromkeys((*wanted, *edits)):
                hook = _hook(name, self._points[name].index, edits.get(name), seen, captured, name in wanted)
                hooks.callback(self._points[name].module.register_forward_hook(hook).remove)
            yield captured
        missed = [name for name in (*wanted, *edits) if name not in seen]
        if missed:
            raise ContractError(
                f"activation '{missed[0]}' was not computed in this pass", "the tap's module did not run"
            )

    def _check_names(self, wanted: Iterable[str], edits: Iterable[str]) -> None:
        known = ", ".join(self._points) or "none"
        for name in wanted:
            if name not in self._points:
                raise ContractError(f"the generator has no feature '{name}'", f"it has: {known}")
        for name in edits:
            if name not in self._points:
                raise CapabilityError(f"the generator has no edit point '{name}'", f"it has: {known}")


def _hook(
    name: str, index: int | None, edit: Edit | None, seen: set[str], captured: dict[str, Tensor], keep: bool
) -> Callable[[nn.Module, Any, Any], Any]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        if name in seen:
            raise ContractError(
                f"activation '{name}' was computed twice in one pass", "tap a module that runs only once"
            )
        seen.add(name)
        activation = output if index is None else output[index]
        if not isinstance(activation, Tensor):
            kind = type(activation).__name__
            raise ContractError(f"activation '{name}' is {kind}, not a tensor", "give its position: Tap(module, index)")
        if edit is not None:
            activation = _edited(name, activation, edit)
        if keep:
            captured[name] = activation
        if edit is None:
            return None
        return activation if index is None else _replaced(output, index, activation)

    return hook


def _edited(name: str, activation: Tensor, edit: Edit) -> Tensor:
    result = edit(activation)
    if not isinstance(result, Tensor) or result.shape != activation.shape or result.dtype != activation.dtype:
        got = f"{result.dtype}{list(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
        raise ContractError(
            f"the edit of '{name}' must return {activation.dtype}{list(activation.shape)}, got {got}",
            "an edit keeps shape and dtype",
        )
    return result


def _replaced(output: Any, index: int, activation: Tensor) -> Any:
    items = list(output)
    items[index] = activation
    return type(output)(items) if type(output) in (tuple, list) else type(output)(*items)  # named tuples


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients of the weights inside the block; both as they were after it.

    Batch normalisation in training mode would change a generator while it is looked at.
    """
    modes = [(module, module.training) for module in network.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    try:
        network.eval()
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
