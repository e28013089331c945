"""Readers of published data sets on their miniatures: every layout, split and mask."""

import shutil
from random import Random
from typing import get_args

import gsegkit_datasets
import numpy as np
import pytest
from gsegkit_datasets.sets.apc import split_scenes
from gsegkit_datasets.testing import LAYOUTS, make_miniature
from gsegkit_datasets.testing.drawing import save
from PIL import Image

from gsegkit.errors import ConfigError, DataError
from gsegkit.plugins import Registry
from gsegkit.testing.data import benchmark_data

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


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_the_real_archive_has_the_published_counts(name):
    """Where a data set lies in the folder of benchmark data, under its reader's name."""
    folder = benchmark_data(name)
    config = REGISTRY.find("dataset", name).config_class()
    for split in get_args(config.model_fields["split"].annotation):
        if "redo" not in split or name != "cub":  # its list is not in the archive
            reader(name, split=split, count="refuse").images(folder)


# ---- what each set's masks mean ----------------------------------------------------------------------------------


def first(name, mini, **options):
    return reader(name, mini, **options).labelled(mini.folder)[0]


def test_votes_of_a_minority_can_be_ignored(minis):
    mini = minis("cub")
    plain, soft = first("cub", mini).mask.numpy(), first("cub", mini, ignore_soft=True).mask.numpy()
    assert set(np.unique(soft)) == {0, 1, 255}
    assert np.array_equal(soft == 1, plain == 1)
    stored = np.array(Image.open(mini.folder.parent / "segmentations" / f"{mini.splits['all'][0]}.png"))
    assert np.array_equal(soft == 255, (stored == 51) | (stored == 102))


def test_soft_edges_have_a_threshold_and_can_be_ignored(minis):
    mini = minis("ecssd")
    stored = np.array(Image.open(mini.folder / "ground_truth_mask" / "0001.png"))
    for threshold in (0, 127, 200):
        assert np.array_equal(first("ecssd", mini, threshold=threshold).mask.numpy(), stored > threshold)
    ignored = first("ecssd", mini, ignore_soft=True).mask.numpy()
    assert np.array_equal(ignored == 255, (stored > 0) & (stored < 255))


def test_inverted_masks_are_told_and_can_be_turned(tmp_path):
    mini = make_miniature("ecssd", "img+gt", tmp_path / "a")
    for path in (mini.folder / "gt").glob("*.png"):
        save(path, 255 - np.array(Image.open(path)))
    data = reader("ecssd").labelled(mini.folder)
    assert any("inverted?" in note and "invert=true" in note for note in data.notes)
    turned = reader("ecssd", invert=True).labelled(mini.folder)
    assert not any("inverted?" in note for note in turned.notes)
    assert all(agreement(sample.mask.numpy(), mini.masks[sample.name]) > 0.9 for sample in turned)
    assert not any(
        "inverted?" in note
        for note in reader("ecssd").labelled(make_miniature("ecssd", "img+gt", tmp_path / "b").folder).notes
    )


def test_flowers_on_blue_are_read_exactly_as_redo_reads_them(minis):
    mini = minis("flowers102")
    sample = first("flowers102", mini, mask_rule="redo", split="redo-test")
    stored = np.array(Image.open(mini.folder / "segmim" / "segmim_00001.jpg"))
    red, green, blue = stored[..., 0], stored[..., 1], stored[..., 2]
    assert np.array_equal(sample.mask.numpy(), ~((red == 0) | (green == 0) | (blue == 254)))
    assert not np.array_equal(sample.mask.numpy(), mini.masks["image_00001"])  # JPEG leaves specks


def test_the_border_of_a_trimap_is_found_or_told(minis):
    mini = minis("flowers17")
    data = reader("flowers17").labelled(mini.folder)
    assert any("(0, 0, 0) touches the flowers" in note for note in data.notes)
    other = reader("flowers17", border=[0, 0, 128]).labelled(mini.folder)[0]
    assert np.array_equal(other.mask.numpy() == 255, data[0].mask.numpy() == 0)


def test_the_border_of_a_pet_is_what_one_asks_for(minis):
    mini = minis("oxford-pets")
    rim = mini.masks["Abyssinian_1"] == 255
    assert rim.any()
    for border, value in (("foreground", 1), ("background", 0), ("ignore", 255)):
        assert (first("oxford-pets", mini, border=border).mask.numpy()[rim] == value).all()


def test_photographs_are_told_by_content_and_grey_ones_have_three_channels(minis):
    pets = {sample.name: sample for sample in reader("oxford-pets").labelled(minis("oxford-pets").folder)}
    kinds = {name: Image.open(minis("oxford-pets").folder / "images" / f"{name}.jpg").format for name in pets}
    assert kinds["Abyssinian_34"] == "GIF"
    assert kinds["Egyptian_Mau_14"] == "PNG"
    birds = reader("cub").labelled(minis("cub").folder)
    grey = [sample for sample in birds if bool((sample.pixels == sample.pixels[:1]).all())]
    assert len(grey) == 1


def test_a_scene_is_split_by_the_text_of_its_path():
    scenes = [f"shelf/{name}/scene-{n:04d}" for name in ("a", "a-2", "a.b") for n in range(4)]
    ordered = split_scenes(scenes)["all"]
    assert [scene.split("/")[1] for scene in ordered] == ["a-2"] * 4 + ["a.b"] * 4 + ["a"] * 4  # "-" < "." < "/"
    parts = split_scenes(scenes)
    assert {name: len(parts[f"genesis-{name}"]) for name in ("train", "val", "test")} == {
        "train": 10,
        "val": 1,
        "test": 1,
    }
    assert sorted(parts["genesis-train"] + parts["genesis-val"] + parts["genesis-test"]) == sorted(scenes)
    assert parts == split_scenes(scenes[::-1])
    random = list(range(12))
    Random(0).shuffle(random)
    assert parts["genesis-val"] == [ordered[random[0]]]


def test_only_255_is_an_object_for_genesis(tmp_path):
    mini = make_miniature("apc", "official", tmp_path / "a")
    path = next(mini.folder.rglob("*.mask.png"))
    save(path, np.where(np.array(Image.open(path)) == 255, 200, 0).astype(np.uint8))
    name = path.relative_to(mini.folder / "training").as_posix().replace("masks/", "").removesuffix(".mask.png")
    for rule, empty in (("genesis", True), ("nonzero", False)):
        data = reader("apc", mask_rule=rule).labelled(mini.folder)
        sample = data[[row.name for row in data.rows].index(name)]
        assert (sample.mask.sum().item() == 0) is empty


def test_voc_can_be_cars_alone(minis, tmp_path):
    mini = minis("voc")
    data = reader("voc", classes=["car"], split="official-trainval").labelled(mini.folder)
    assert data.classes == ("background", "car")
    assert [sample.name for sample in data] == [name for name, mask in mini.masks.items() if (mask == 7).any()]
    assert data.expected is None
    large = reader("voc", classes=["car"], split="official-trainval", least_share=0.05, others="ignore")
    names = [sample.name for sample in large.labelled(mini.folder)]
    assert names == [name for name, mask in mini.masks.items() if (mask == 7).mean() > 0.05]
    both = reader("voc", classes=["person", "car"], split="official-trainval", others="ignore").labelled(mini.folder)
    mixed = {sample.name: sample.mask.numpy() for sample in both}["2008_000002"]
    assert mixed[0, 0] == 2
    assert (mixed == 1).sum() == (mini.masks["2008_000002"] == 15).sum()
    alone = {
        s.name: s.mask.numpy()
        for s in reader("voc", classes=["car"], split="official-trainval", others="ignore").labelled(mini.folder)
    }
    assert (alone["2008_000002"] == 255).sum() == (mini.masks["2008_000002"] > 7).sum()
    shutil.copytree(mini.folder, tmp_path / "v")
    (tmp_path / "v" / "VOCdevkit" / "VOC2007").mkdir()
    with pytest.raises(DataError, match="holds the years 2007, 2012"):
        reader("voc").labelled(tmp_path / "v")
    assert len(reader("voc", year=2012).labelled(tmp_path / "v")) == 3
    with pytest.raises(ConfigError, match="no class 'lorry'"):
        reader("voc", classes=["lorry"]).labelled(mini.folder)


def test_voc_masks_in_colours_are_read_and_other_colours_refused(tmp_path):
    mini = make_miniature("voc", "year", tmp_path / "a")
    for path in (mini.folder / "SegmentationClass").glob("*.png"):
        save(path, np.array(Image.open(path).convert("RGB")))
    for sample in reader("voc", split="official-trainval").labelled(mini.folder):
        assert np.array_equal(sample.mask.numpy(), mini.masks[sample.name])
    path = mini.folder / "SegmentationClass" / "2008_000002.png"
    save(path, np.full((*mini.masks["2008_000002"].shape, 3), 77, np.uint8))
    with pytest.raises(DataError, match=r"has the colour \(77, 77, 77\)|value 77"):
        reader("voc").labelled(mini.folder)
    save(path, np.full((*mini.masks["2008_000002"].shape, 3), (77, 0, 3), np.uint8))
    with pytest.raises(DataError, match=r"the colour \(77, 0, 3\), which no class has"):
        reader("voc").labelled(mini.folder)


# ---- faces -------------------------------------------------------------------------------------------------------


def test_every_order_of_the_parts_is_reached_from_every_layout(minis):
    official = minis("celebamask-hq")
    by_index = {
        name: data.classes
        for name in ("official", "bisenet", "klish15")
        for data in [reader("celebamask-hq", classes=name).labelled(official.folder)]
    }
    assert [len(names) for names in by_index.values()] == [19, 19, 15]
    assert by_index["bisenet"][17] == "hair"
    assert by_index["official"][13] == "hair"
    assert by_index["klish15"][10] == "hair"
    for order in by_index:
        merged = minis("celebamask-hq", f"merged-{order}")
        for sample in reader("celebamask-hq", classes=order).labelled(official.folder):
            assert np.array_equal(sample.mask.numpy(), merged.masks[sample.name]), (order, sample.name)
    swapped = reader("celebamask-hq", order="bisenet", classes="official").labelled(
        minis("celebamask-hq", "merged-bisenet").folder
    )
    for sample in swapped:
        names = np.array(by_index["official"])[sample.mask.numpy()]
        assert np.array_equal(
            names, np.array(by_index["bisenet"])[minis("celebamask-hq", "merged-bisenet").masks[sample.name]]
        )


def test_background_can_be_left_out_of_the_score(minis):
    mini = minis("celebamask-hq")
    kept, void = first("celebamask-hq", mini), first("celebamask-hq", mini, background="ignore")
    assert np.array_equal(void.mask.numpy(), np.where(kept.mask.numpy() == 0, 255, kept.mask.numpy()))
    with pytest.raises(ConfigError, match="only one class left"):
        reader("celebamask-hq", background="ignore", classes="foreground")


def test_the_foreground_of_a_face_is_with_or_without_its_clothes(minis):
    mini = minis("celebamask-hq")
    parts = first("celebamask-hq", mini).mask.numpy()
    assert np.array_equal(first("celebamask-hq", mini, classes="foreground").mask.numpy(), parts > 0)
    bare = first("celebamask-hq", mini, classes="foreground-without-cloth").mask.numpy()
    assert np.array_equal(bare == 1, (parts > 0) & (parts != 18))
    assert bare.sum() < (parts > 0).sum()


def test_photographs_come_down_to_the_size_of_the_parts(minis):
    mini = minis("celebamask-hq")
    assert Image.open(mini.folder / "CelebA-HQ-img" / "0.jpg").size == (64, 64)
    assert first("celebamask-hq", mini).pixels.shape == (3, 32, 32)


def test_merged_faces_need_their_order_and_a_wrong_one_is_told(minis):
    mini = minis("celebamask-hq", "merged-bisenet")
    with pytest.raises(DataError, match="do not say in which order") as caught:
        reader("celebamask-hq").labelled(mini.folder)
    assert "data_reader.order" in caught.value.hint
    for order, folder in (("official", mini.folder), ("bisenet", minis("celebamask-hq", "merged-official").folder)):
        wrong = reader("celebamask-hq", order=order, classes=order).labelled(folder)
        assert any(f"in the order '{order}'?" in note for note in wrong.notes)
    right = reader("celebamask-hq", order="bisenet", classes="bisenet").labelled(mini.folder)
    assert not any("in the order" in note for note in right.notes)
    small = minis("celebamask-hq", "merged-klish15")
    with pytest.raises(DataError, match="15 merged classes cannot be read as 19"):
        reader("celebamask-hq", order="klish15").labelled(small.folder)
    with pytest.raises(DataError, match=r"holds the value 1[5-8]"):
        reader("celebamask-hq", order="klish15", classes="klish15").labelled(mini.folder)


def test_a_face_without_any_part_is_missing_its_mask(tmp_path):
    mini = make_miniature("celebamask-hq", "official", tmp_path / "a")
    for path in mini.folder.rglob("00003_*.png"):
        path.unlink()
    with pytest.raises(DataError, match=r"lacks the mask of 1 of 6 listed images: 3"):
        reader("celebamask-hq").labelled(mini.folder)
    assert len(reader("celebamask-hq", missing="skip").labelled(mini.folder)) == 5
    shutil.rmtree(mini.folder / "CelebAMask-HQ-mask-anno" / "0")
    with pytest.raises(DataError, match="no file of a part"):
        reader("celebamask-hq").labelled(mini.folder)


# ---- crop, size, draw --------------------------------------------------------------------------------------------


def test_crop_and_size_act_on_image_and_mask_alike(minis):
    mini = minis("cub")
    name = mini.splits["all"][0]
    whole, mask = first("cub", mini), mini.masks[name]
    height, width = mask.shape
    left = round((width - height) / 2)
    square = first("cub", mini, crop="centre-square")
    assert np.array_equal(square.mask.numpy(), mask[:, left : left + height])
    assert np.array_equal(square.pixels.numpy(), whole.pixels.numpy()[:, :, left : left + height])
    small = first("cub", mini, crop="centre-square", size=16)
    assert small.pixels.shape == (3, 16, 16)
    assert set(np.unique(small.mask)) <= {0, 1}
    aspect = first("cub", mini, size=18)
    assert tuple(aspect.mask.shape) == (18, 18 * width // height)


def test_a_box_is_cut_around_the_object_and_clipped(minis):
    for name, split in (("cub", "all"), ("stanford-cars", "official-train"), ("stanford-dogs", "all")):
        mini = minis(name)
        data = reader(name, crop="box-1.5", split=split).labelled(mini.folder)
        for sample in data:
            mask = mini.masks[sample.name]
            rows, columns = np.nonzero(mask)
            sides = np.ptp(rows) + 1, np.ptp(columns) + 1
            assert abs(max(sample.mask.shape) - min(2 * int(max(sides) * 0.75), max(mask.shape))) <= 2
            assert sample.mask.sum() == mask.sum()  # nothing of the object is cut off
    boxed = reader("cub", crop="box-1.5").images(minis("cub").folder)
    plain = reader("cub").images(minis("cub").folder)
    assert boxed[0].shape[1:] != plain[0].shape[1:]
    assert boxed.fitted((20, 20), "crop")[0].shape == (3, 20, 20)


def test_a_limit_draws_by_its_seed_and_some_can_be_left_out(minis):
    mini = minis("cub")
    some = [[row.name for row in reader("cub", limit=4, seed=seed).labelled(mini.folder).rows] for seed in (0, 0, 1)]
    assert some[0] == some[1] != some[2]
    assert some[0] == [name for name in mini.splits["all"] if name in some[0]]
    assert some[0] != list(mini.splits["all"][:4])
    without = reader("cub", leave_out=[mini.splits["all"][2]]).labelled(mini.folder)
    assert len(without) == 11
    assert any("left out, as told: 1 image" in note for note in without.notes)
    with pytest.raises(DataError, match="leave_out names 'nothing'"):
        reader("cub", leave_out=["nothing"]).labelled(mini.folder)


def test_a_mask_drawn_on_the_stored_pixels_of_a_turned_photograph_is_used_so(tmp_path):
    mini = make_miniature("ecssd", "img+gt", tmp_path / "a")
    path = mini.folder / "img" / "0001.jpg"
    upright = np.array(Image.open(path))
    for orientation in (5, 6, 7, 8):
        image = Image.fromarray(upright)
        exif = image.getexif()
        exif[0x0112] = orientation
        image.save(path, exif=exif, quality=95)
        sample = reader("ecssd").labelled(mini.folder)[0]
        stored = np.array(Image.open(path)).transpose(2, 0, 1)
        assert np.array_equal(sample.pixels.numpy(), stored), orientation
        assert np.array_equal(sample.mask.numpy(), mini.masks["0001"])


def test_what_a_data_set_was_read_from_is_known(minis):
    mini = minis("cub")
    data = reader("cub", split="redo-test").labelled(mini.folder)
    assert {path.name for path in data.sources} == {"images.txt", "train_val_test_split.txt"}
    assert len(data.files) == 2 * len(data)
    assert all(path.is_file() for path in data.files)
