"""Readers of published data sets on their miniatures: every layout, split and mask."""

import gsegkit_datasets
import numpy as np
import pytest
from gsegkit_datasets.testing import LAYOUTS, make_miniature

from gsegkit.plugins import Registry

REGISTRY = Registry()
REGISTRY.add(gsegkit_datasets, "gsegkit-datasets")
EVERY = [(name, layout) for name, layouts in LAYOUTS.items() for layout in layouts]


def reader(name, mini=None, **options):
    return REGISTRY.build("dataset", name, {**(mini.options if mini is not None else {}), **options})


@pytest.fixture(scope="module")
def minis(tmp_path_factory):
    """Miniatures that tests only read, each made once."""
    made = {}

    def get(name, layout=None):
        layout = layout or LAYOUTS[name][0]
        if (name, layout) not in made:
            made[name, layout] = make_miniature(name, layout, tmp_path_factory.mktemp("mini") / "folder")
        return made[name, layout]

    return get


def agreement(found, expected):
    """IoU of two binary masks, 255 left out."""
    seen = (found != 255) & (expected != 255)
    both = ((found == 1) & (expected == 1) & seen).sum()
    return both / ((((found == 1) | (expected == 1)) & seen).sum())


def test_every_reader_has_a_miniature_and_the_other_way_round():
    assert set(LAYOUTS) == set(gsegkit_datasets.READERS) - {"folder"}


@pytest.mark.parametrize(("name", "layout"), EVERY)
def test_every_split_of_every_layout_holds_its_images_and_masks(minis, name, layout):
    mini = minis(name, layout)
    for split, names in mini.splits.items():
        if not names:
            continue
        part = reader(name, mini, split=split)
        data = part.labelled(mini.folder)
        assert [sample.name for sample in data] == list(names), split
        assert [path.name for path in part.images(mini.folder).paths] == [row.image.name for row in data.rows]
        for sample in data:
            found, expected = sample.mask.numpy(), mini.masks[sample.name]
            assert found.shape == expected.shape == tuple(sample.pixels.shape[1:])
            if mini.exact:
                assert np.array_equal(found, expected), (split, sample.name)
            else:
                assert agreement(found, expected) > 0.93
    assert data.notes[0].startswith(f"{data.title}, layout ")
