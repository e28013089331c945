import subprocess
import sys

import gsegkit_datasets
import pytest
import torch
from PIL import Image

from gsegkit.colours import class_palette
from gsegkit.errors import ConfigError, DataError
from gsegkit.images import write_png
from gsegkit.plugins import Registry
from gsegkit.testing.data import benchmark_data

REGISTRY = Registry()
REGISTRY.add(gsegkit_datasets, "gsegkit-datasets")


def reader(**options):
    return REGISTRY.build("dataset", "folder", options)


def picture(seed, size=(6, 9)):
    return torch.randint(0, 256, (3, *size), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def mask_of(*values, size=(6, 9)):
    """Columns of the given values, the rest 0."""
    mask = torch.zeros(size, dtype=torch.uint8)
    for column, value in enumerate(values):
        mask[:, column] = value
    return mask


def make_folder(root, masks, images="images", where="masks", suffix=""):
    for name, mask in masks.items():
        write_png(root / images / f"{name}.png", picture(1, tuple(mask.shape)))
        write_png(root / where / f"{name}{suffix}.png", mask)
    return root


def test_the_plugin_is_light_and_registered():
    code = "import sys, gsegkit_datasets, gsegkit_datasets.config; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
    assert not REGISTRY.failures


# ---- layouts -----------------------------------------------------------------------------------------------------


def test_images_and_masks_folders(tmp_path):
    make_folder(tmp_path, {"b": mask_of(1), "a": mask_of(2, 255), "c": mask_of()})
    (tmp_path / "SOURCE.txt").write_text("where it came from")
    data = reader().labelled(tmp_path)
    assert [sample.name for sample in data] == ["a", "b", "c"]
    assert data.classes == ("background", "class-1", "class-2")
    assert not data.binary
    assert torch.equal(data[0].mask, mask_of(2, 255))
    assert torch.equal(data[0].pixels, picture(1))
    assert [path.name for path in reader().images(tmp_path).paths] == ["a.png", "b.png", "c.png"]


def test_flat_folder_with_suffix(tmp_path):
    make_folder(tmp_path, {"a": mask_of(1), "b": mask_of(1)}, images="", where="", suffix="_mask")
    write_png(tmp_path / "theatre_mask.png", picture(3))  # an image, for there is no theatre.png
    assert [path.name for path in reader().images(tmp_path).paths] == ["a.png", "b.png", "theatre_mask.png"]
    with pytest.raises(DataError, match=r"1 of 3 images have no mask: theatre_mask"):
        reader().labelled(tmp_path)
    (tmp_path / "theatre_mask.png").unlink()
    assert [sample.name for sample in reader().labelled(tmp_path)] == ["a", "b"]


def test_other_names_by_option(tmp_path):
    make_folder(tmp_path, {"a": mask_of(1)}, images="jpg", where="gt/fine")
    data = reader(images="jpg", masks="gt/fine").labelled(tmp_path)
    assert len(data) == 1
    make_folder(tmp_path / "two", {"a": mask_of(1)}, suffix="_mask")
    assert len(reader().labelled(tmp_path / "two")) == 1


def test_images_beside_a_masks_folder_and_in_subfolders(tmp_path):
    make_folder(tmp_path, {"a": mask_of(1)}, images="")
    assert len(reader().labelled(tmp_path)) == 1
    for kind in ("cat", "dog"):
        write_png(tmp_path / "plain" / kind / "001.png", picture(0))
    assert len(reader().images(tmp_path / "plain")) == 2


def test_images_are_read_lazily_and_fitted_on_demand(tmp_path):
    make_folder(tmp_path, {"a": mask_of(1), "b": mask_of(1)})
    data = reader().labelled(tmp_path)
    (tmp_path / "images" / "b.png").write_bytes(b"")
    assert data[0].name == "a"
    with pytest.raises(DataError, match="empty"):
        data[1]
    assert reader().images(tmp_path).fitted((4, 4))[0].shape == (3, 4, 4)


# ---- what masks store --------------------------------------------------------------------------------------------


def test_0_255_becomes_0_1(tmp_path):
    make_folder(tmp_path, {"a": mask_of(255), "b": mask_of()})
    data = reader().labelled(tmp_path)
    assert data.binary
    assert data.classes == ("background", "class-1")
    assert torch.equal(data[0].mask, mask_of(1))


def test_one_index_anywhere_makes_255_the_ignore_label_everywhere(tmp_path):
    make_folder(tmp_path, {"a": mask_of(255), "b": mask_of(), "z": mask_of(1)})
    data = reader().labelled(tmp_path)
    assert not data.binary
    assert torch.equal(data[0].mask, mask_of(255))


def test_the_rule_can_be_overruled(tmp_path):
    make_folder(tmp_path, {"a": mask_of(255)})
    assert torch.equal(reader(values="index").labelled(tmp_path)[0].mask, mask_of(255))
    make_folder(tmp_path, {"b": mask_of(7)})
    with pytest.raises(DataError, match=r"b\.png' holds the value 7"):
        reader(values="binary").labelled(tmp_path)


def test_masks_without_a_labelled_pixel_are_refused(tmp_path):
    everywhere = torch.full((6, 9), 255, dtype=torch.uint8)
    folder = make_folder(tmp_path, {"a": everywhere, "b": everywhere})
    with pytest.raises(DataError, match="no mask holds a class") as raised:
        reader(values="index").labelled(folder)
    assert "values=binary" in raised.value.hint
    assert len(reader(values="index").labelled(make_folder(tmp_path, {"b": mask_of(1, 255)}))) == 2, (
        "one pixel is enough"
    )


def test_palette_png_holds_indices(tmp_path):
    (tmp_path / "images").mkdir()
    write_png(tmp_path / "images" / "a.png", picture(0))
    write_png(tmp_path / "masks" / "a.png", mask_of(2, 1, 255), class_palette())
    assert Image.open(tmp_path / "masks" / "a.png").mode == "P"
    assert torch.equal(reader().labelled(tmp_path)[0].mask, mask_of(2, 1, 255))


def test_one_bit_masks_are_binary(tmp_path):
    make_folder(tmp_path, {"a": mask_of(255)})
    Image.fromarray(mask_of(255).numpy()).convert("1").save(tmp_path / "masks" / "a.png")
    assert torch.equal(reader().labelled(tmp_path)[0].mask, mask_of(1))


# ---- class names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("classes.txt", "# the classes\nbackground\nleaf\n\nred spot\n"),
        ("classes.yaml", "- background\n- leaf\n- red spot\n"),
        ("classes.yml", "{2: red spot, 0: background, 1: leaf}"),
    ],
)
def test_class_names_from_a_file(tmp_path, file, text):
    make_folder(tmp_path, {"a": mask_of(1)})
    (tmp_path / file).write_text(text)
    assert reader().labelled(tmp_path).classes == ("background", "leaf", "red spot")


def test_class_names_by_option_win(tmp_path):
    make_folder(tmp_path, {"a": mask_of(1)})
    (tmp_path / "classes.txt").write_text("a\nb")
    assert reader(classes=["ground", "thing"]).labelled(tmp_path).classes == ("ground", "thing")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("classes.txt", "a\na"),
        ("classes.txt", ""),
        ("classes.yaml", "{1: a, 2: b}"),
        ("classes.yaml", "just text"),
        ("classes.yaml", "- [a"),
        ("classes.yaml", "{0: a, 1: ''}"),
    ],
)
def test_bad_class_files(tmp_path, file, text):
    make_folder(tmp_path, {"a": mask_of(1)})
    (tmp_path / file).write_text(text)
    with pytest.raises(DataError):
        reader().labelled(tmp_path)


# ---- errors ------------------------------------------------------------------------------------------------------


def test_unknown_class_index(tmp_path):
    make_folder(tmp_path, {"a": mask_of(1), "b": mask_of(5)})
    (tmp_path / "classes.txt").write_text("background\nleaf")
    with pytest.raises(DataError, match=r"b\.png' holds the class index 5, but 2 classes are named"):
        reader().labelled(tmp_path)


def test_grey_levels_are_not_classes(tmp_path):
    make_folder(tmp_path, {"a": mask_of(0, 13, 120, 255)})
    with pytest.raises(DataError, match="value 120: these are probably grey levels"):
        reader().labelled(tmp_path)


def test_mask_of_another_size(tmp_path):
    make_folder(tmp_path, {"a": mask_of(1)})
    write_png(tmp_path / "masks" / "a.png", mask_of(1, size=(9, 6)))
    with pytest.raises(DataError, match=r"is 6 x 9, its image is 9 x 6"):
        reader().labelled(tmp_path)


def test_missing_and_spare_masks(tmp_path):
    make_folder(tmp_path, {"a": mask_of(1), "b": mask_of(1)})
    write_png(tmp_path / "images" / "c.png", picture(0))
    with pytest.raises(DataError, match="1 of 3 images have no mask: c"):
        reader().labelled(tmp_path)
    (tmp_path / "images" / "c.png").unlink()
    (tmp_path / "images" / "a.png").unlink()
    with pytest.raises(DataError, match="1 of 2 masks have no image: a"):
        reader().labelled(tmp_path)


def test_no_masks_no_images_no_folder(tmp_path):
    write_png(tmp_path / "only" / "a.png", picture(0))
    with pytest.raises(DataError, match="1 images but no mask"):
        reader().labelled(tmp_path / "only")
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "nowhere"):
        for method in (reader().images, reader().labelled):
            with pytest.raises(DataError, match=folder):
                method(tmp_path / folder)
    with pytest.raises(DataError, match="pictures"):
        reader(images="pictures").images(tmp_path / "only")


def test_duplicate_stems(tmp_path):
    make_folder(tmp_path, {"a": mask_of(1)})
    Image.new("RGB", (9, 6)).save(tmp_path / "images" / "a.jpg")
    with pytest.raises(DataError, match="same stem 'a'"):
        reader().labelled(tmp_path)


def test_damaged_mask(tmp_path):
    make_folder(tmp_path, {"a": mask_of(1)})
    path = tmp_path / "masks" / "a.png"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match=r"a\.png"):
        reader().labelled(tmp_path)


def test_a_typo_in_an_option():
    with pytest.raises(ConfigError, match="did you mean 'masks'"):
        reader(mask="gt")


def test_benchmark_folder():
    data = reader().labelled(benchmark_data("wbc"))
    assert len(data) == 300
    assert data.classes == ("background", "class-1", "class-2")
    assert data[0].pixels.shape == (3, 120, 120)
    assert len(reader().images(benchmark_data("coffee_leaf_unlabelled"))) == 1747


# ---- annotated by hand -------------------------------------------------------------------------------------------


def test_255_is_unknown_in_a_folder_to_annotate(tmp_path):
    """Where a person painted nothing but background so far, 255 is no foreground; and pictures may have no mask yet."""
    make_folder(tmp_path, {"a": mask_of(255), "b": mask_of()})
    (tmp_path / "classes.yaml").write_text("- ground\n- leaf\n")
    assert reader().labelled(tmp_path).binary
    (tmp_path / "annotate.json").write_text("{}")
    write_png(tmp_path / "images" / "later.png", picture(3))
    write_png(tmp_path / "drafts" / "a.png", mask_of(1))
    data = reader().labelled(tmp_path)
    assert not data.binary
    assert data.notes == ("1 image without a mask left out",)
    assert torch.equal(data[0].mask, mask_of(255))
    assert [sample.name for sample in data] == ["a", "b"]
    assert len(reader().images(tmp_path)) == 3
    assert reader(values="binary").labelled(tmp_path).binary, "an option overrules it"
