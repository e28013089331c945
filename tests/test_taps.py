"""Taps: activations by declared names, hooks that never stay behind."""

from __future__ import annotations

from collections import namedtuple

import pytest
import torch
from torch import nn

from gsegkit.errors import CapabilityError, ContractError
from gsegkit.taps import Tap, TapPoint, Taps

Pair = namedtuple("Pair", "image state")


class Block(nn.Module):
    def __init__(self, kind: type) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, value):
        return Pair(value + 1, value * 2) if self.kind is Pair else self.kind((value + 1, value * 2))


class Net(nn.Module):
    """A constant Parameter, two layers, a block that returns a pair."""

    def __init__(self, kind: type = tuple) -> None:
        super().__init__()
        self.const = nn.Parameter(torch.ones(1, 2, 4, 4))
        self.const_tap = TapPoint()
        self.first = nn.Conv2d(2, 2, 1, bias=False)
        self.block = Block(kind)
        self.shared = nn.ReLU()
        nn.init.eye_(self.first.weight[:, :, 0, 0])
        self.taps = Taps(
            {
                "const": self.const_tap,
                "first": self.first,
                "state": Tap(self.block, 1),
                "pair": self.block,
                "shared": self.shared,
                "unused": nn.Identity(),
            }
        )

    def forward(self, n: int):
        value = self.const_tap(self.const.expand(n, -1, -1, -1))
        image, state = self.block(self.first(value))
        return self.shared(image) + self.shared(state)


def hooks(net: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in net.modules())


def test_capture_gives_the_activations_with_their_gradients() -> None:
    net = Net()
    with net.taps.open(capture=("const", "first", "state")) as captured:
        net(3)
    assert list(captured) == ["const", "first", "state"]
    assert torch.equal(captured["state"], torch.full((3, 2, 4, 4), 2.0))
    captured["first"].sum().backward()
    assert net.const.grad is not None
    assert hooks(net) == 0


@pytest.mark.parametrize("kind", [tuple, list, Pair])
def test_an_edit_replaces_one_item_of_any_kind_of_tuple(kind: type) -> None:
    net = Net(kind)
    with net.taps.open(edits={"state": torch.zeros_like}):
        assert torch.equal(net(1), torch.full((1, 2, 4, 4), 2.0))
    assert torch.equal(net(1), torch.full((1, 2, 4, 4), 4.0))


def test_a_parameter_is_edited_through_its_tap_point() -> None:
    net = Net()
    with net.taps.open(capture=("first",), edits={"const": lambda const: const * 5}) as captured:
        net(1)
    assert (captured["first"] == 5).all()
    assert (net.const == 1).all()


def test_what_is_captured_is_what_the_network_went_on_with() -> None:
    net = Net()
    with net.taps.open(capture=("first",), edits={"first": lambda value: value - 1}) as captured:
        net(1)
    assert (captured["first"] == 0).all()


def test_hooks_are_gone_after_an_error() -> None:
    net = Net()
    counted = []

    def fail() -> None:
        with net.taps.open(capture=("first",), edits={"const": torch.sin}):
            counted.append(hooks(net))
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert counted == [2]
    assert hooks(net) == 0


def test_unknown_names_leave_no_hook() -> None:
    net = Net()
    with pytest.raises(ContractError, match=r"no feature 'second'.*it has: const, first"), net.taps.open(("second",)):
        pass
    with pytest.raises(CapabilityError, match="no edit point 'x'"), net.taps.open(("first",), {"x": torch.sin}):
        pass
    assert hooks(net) == 0


@pytest.mark.parametrize(
    ("edit", "got"),
    [(lambda v: v[:, :1], r"\[1, 1, 4, 4\]"), (lambda v: v.double(), "float64"), (lambda v: None, "NoneType")],
)
def test_an_edit_keeps_shape_and_dtype(edit, got: str) -> None:
    net = Net()
    with pytest.raises(ContractError, match=f"edit of 'first'.*got .*{got}"), net.taps.open(edits={"first": edit}):
        net(1)
    assert hooks(net) == 0


def test_wrong_taps_are_named() -> None:
    net = Net()
    with pytest.raises(ContractError, match="'shared' was computed twice"), net.taps.open(("shared",)):
        net(1)
    with pytest.raises(ContractError, match="'unused' was not computed"), net.taps.open(("unused",)):
        net(1)
    with pytest.raises(ContractError, match="'pair' is tuple, not a tensor"), net.taps.open(("pair",)):
        net(1)


def test_the_table_adds_nothing_to_the_state() -> None:
    assert list(Net().state_dict()) == ["const", "first.weight"]
    assert Net().taps.names == ("const", "first", "state", "pair", "shared", "unused")
