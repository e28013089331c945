"""Photographs that the tests make themselves: a leaf-green disc on a grey, textured ground, its mask beside it."""

import sys
from pathlib import Path

import pytest
import torch

from gsegkit.images import write_png


def make_folder(folder: Path, count: int = 8, size: tuple[int, int] = (40, 56), masks: bool = True) -> Path:
    """`count` photographs of a disc with a dark spot in it, and their masks: 1 disc, 2 spot."""
    rows, columns = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    for index in range(count):
        random = torch.Generator().manual_seed(index)
        y, x = size[0] / 2 + index % 3, size[1] / 2 - index % 4
        distance = ((rows - y) ** 2 + (columns - x) ** 2).float().sqrt()
        mask = (distance < size[0] / 3).to(torch.uint8) + (distance < size[0] / 8).to(torch.uint8)
        colours = torch.tensor([[180, 180, 185], [40, 140, 50], [15, 75, 25]])
        pixels = colours[mask.long()].permute(2, 0, 1) + torch.randint(-12, 13, (3, *size), generator=random)
        write_png(folder / "images" / f"p{index}.png", pixels.clamp(0, 255).to(torch.uint8))
        if masks:
            write_png(folder / "masks" / f"p{index}.png", mask)
    return folder


@pytest.fixture
def photographs(tmp_path):
    return make_folder(tmp_path / "photographs")


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the command in this process; returns (exit code, standard error)."""

    from gsegkit.cli.main import main

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["gsegkit", *map(str, args)])
        try:
            main()
            code = 0
        except SystemExit as leaving:
            code = leaving.code or 0
        return code, capsys.readouterr().err

    return run
