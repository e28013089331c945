"""Data sets that are incomplete, of another version, damaged or hostile: one sentence, and what to do."""

import shutil

import gsegkit_datasets
import numpy as np
import pytest
from gsegkit_datasets.testing import LAYOUTS, make_miniature
from gsegkit_datasets.testing.drawing import save
from PIL import Image
from scipy.io import savemat

from gsegkit.errors import ConfigError, DataError, NoMasksError, UnknownPluginError
from gsegkit.plugins import Registry

REGISTRY = Registry()
REGISTRY.add(gsegkit_datasets, "gsegkit-datasets")


def labelled(name, folder, **options):
    return REGISTRY.build("dataset", name, options).labelled(folder)


def refusal(name, folder, **options):
    """Message and hint of the error."""
    with pytest.raises(DataError) as caught:
        labelled(name, folder, **options)
    error = caught.value
    assert "\n" not in error.message
    assert error.hint
    return f"{error.message} | {error.hint}"


@pytest.fixture
def cub(tmp_path):
    return make_miniature("cub", "official", tmp_path / "cub")


# ---- what lies there ---------------------------------------------------------------------------------------------


def test_another_folder_is_told_with_the_layouts_that_are_known(tmp_path):
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "a.jpg").write_bytes(b"")
    for name in LAYOUTS:
        text = refusal(name, tmp_path / "holiday")
        assert "it holds a.jpg" in text
        assert "layouts: " in text
        assert "Archives: unpack " in text


def test_archives_and_tables_are_told_from_folders(tmp_path):
    (tmp_path / "CUB_200_2011.tgz").write_bytes(b"")
    assert "holds CUB_200_2011.tgz, which is not unpacked" in refusal("cub", tmp_path)
    for name, remedy in (
        ("data/test-00000-of-00002.parquet", "gsegkit unpack"),
        ("duts-test.tfrecord-00000-of-00001", "DUTS-TE.zip"),
    ):
        path = tmp_path / name.partition("-")[0].replace("/", "") / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
        text = refusal("duts", tmp_path / name.partition("-")[0].replace("/", ""))
        assert f"as tables ({path.name}), which are not read as they are" in text
        assert remedy in text


def test_a_half_unpacked_archive_is_told_with_size_and_checksum(cub):
    shutil.rmtree(cub.folder / "images")
    text = refusal("cub", cub.folder)
    assert "has images.txt of CUB-200-2011, but no images/" in text
    assert "CUB_200_2011.tgz (1,150,585,339 bytes, md5 97eceeb196236b17998738112f37df78)" in text


def test_missing_images_are_counted_and_can_be_skipped(cub):
    lost = cub.splits["all"][3]
    (cub.folder / "images" / f"{lost}.jpg").unlink()
    text = refusal("cub", cub.folder)
    assert f"lacks the image of 1 of 12 listed images: {lost}" in text
    assert "missing=skip" in text
    data = labelled("cub", cub.folder, missing="skip")
    assert len(data) == 11
    assert "left out, without image: 1 image" in data.notes
    shutil.rmtree(cub.folder / "images")
    (cub.folder / "images").mkdir()
    assert "lacks all 12 images of the split" in refusal("cub", cub.folder, missing="skip")


def test_masks_that_are_not_there_are_named_by_their_archive(tmp_path, cub):
    shutil.rmtree(cub.folder.parent / "segmentations")
    with pytest.raises(NoMasksError, match="none of 12 images has one") as caught:
        labelled("cub", cub.folder)
    assert "segmentations.tgz (39,272,883 bytes, md5 4d47ba1228eae64f2fa547c47bc65255)" in caught.value.hint
    assert len(REGISTRY.build("dataset", "cub", {}).images(cub.folder)) == 12
    flowers = make_miniature("flowers102", "torchvision", tmp_path / "f")
    shutil.rmtree(flowers.folder / "flowers-102" / "segmim")  # as torchvision leaves it
    with pytest.raises(NoMasksError) as caught:
        labelled("flowers102", flowers.folder)
    assert "102segmentations.tgz" in caught.value.hint
    cars = make_miniature("stanford-cars", "torchvision", tmp_path / "c")
    shutil.rmtree(cars.folder / "stanford_cars" / "masks")
    with pytest.raises(NoMasksError, match="Stanford Cars has no masks") as caught:
        labelled("stanford-cars", cars.folder)
    assert "masks/PATH.png" in caught.value.hint


def test_two_layouts_in_one_folder_are_not_guessed_between(tmp_path):
    mini = make_miniature("ecssd", "official", tmp_path / "a")
    shutil.copytree(mini.folder / "ground_truth_mask", mini.folder / "masks")
    text = refusal("ecssd", mini.folder)
    assert "in the layouts 'official' and 'copy images+masks'" in text
    assert labelled("ecssd", mini.folder, layout="official").layout == "official"
    assert "has no layout 'mine'" in refusal("ecssd", mini.folder, layout="mine")


def test_another_number_of_images_is_told_or_refused(cub):
    data = labelled("cub", cub.folder, split="redo-test")
    assert data.expected == 1000
    assert any("4 images, the published one has 1,000: another version" in note for note in data.notes)
    assert "the published one has 1,000" in refusal("cub", cub.folder, split="redo-test", count="refuse")


def test_the_other_part_of_duts_is_not_read_in_its_place(tmp_path):
    mini = make_miniature("duts", "official", tmp_path / "a")
    assert "DUTS" in refusal("duts", mini.folder, split="official-train")
    both = make_miniature("duts", "parent", tmp_path / "b")
    assert "left out, without an image: 1 mask" in labelled("duts", both.folder, split="official-train").notes


def test_what_duts_stores_twice_is_taken_in_the_size_of_its_image(tmp_path):
    mini = make_miniature("duts", "parent", tmp_path / "a")
    data = labelled("duts", mini.folder, split="official-train")
    row = next(row for row in data.rows if row.name == "n01532829_13482")
    assert row.mask.suffix == ".jpg"


def test_images_that_some_copies_lack_are_left_out_and_told(tmp_path):
    mini = make_miniature("dut-omron", "img+gt", tmp_path / "a")
    (mini.folder / "gt" / "im002.png").rename(mini.folder / "gt" / "other.png")
    assert "lacks the mask of 1 of 6 listed images: im002" in refusal("dut-omron", mini.folder)
    (mini.folder / "img" / "im002.jpg").rename(mini.folder / "img" / "sun_akxddynsopjifavt.jpg")  # a known one
    data = labelled("dut-omron", mini.folder)
    assert len(data) == 5
    assert "left out, without mask: 1 image" in data.notes


# ---- masks -------------------------------------------------------------------------------------------------------


def test_a_mask_of_another_size_is_refused_with_both_sizes(tmp_path):
    mini = make_miniature("ecssd", "img+gt", tmp_path / "a")
    path = mini.folder / "gt" / "0001.png"
    save(path, np.array(Image.open(path).resize((24, 18))))
    text = refusal("ecssd", mini.folder)
    assert "the mask of" in text
    assert "is 24 x 18, the image 48 x 36" in text
    assert labelled("ecssd", mini.folder, resize_mask="nearest")[0].mask.shape == (36, 48)


def test_masks_of_another_kind_are_refused(tmp_path):
    saliency = make_miniature("ecssd", "img+gt", tmp_path / "a")
    save(saliency.folder / "gt" / "0001.png", saliency.masks["0001"])
    assert "holds 0 and 1" in refusal("ecssd", saliency.folder)
    save(saliency.folder / "gt" / "0001.png", saliency.masks["0001"].astype(np.uint16) * 60000)
    assert "more than 8 bits (values up to 60000)" in refusal("ecssd", saliency.folder)
    pets = make_miniature("oxford-pets", "official", tmp_path / "b")
    save(pets.folder / "annotations" / "trimaps" / "Abyssinian_1.png", pets.masks["Abyssinian_1"])
    assert "holds other values than 1, 2 and 3" in refusal("oxford-pets", pets.folder)
    (pets.folder / "annotations" / "trimaps" / "Abyssinian_1.png").write_bytes(b"\x89PNG not")
    assert "Abyssinian_1.png" in refusal("oxford-pets", pets.folder)


# ---- lists -------------------------------------------------------------------------------------------------------


def test_the_split_of_the_papers_needs_its_list_and_says_where_it_is_from(cub):
    (cub.folder / "train_val_test_split.txt").rename(cub.folder.parent / "mine.txt")
    text = refusal("cub", cub.folder, split="redo-test")
    assert "needs a list that is not in the archives" in text
    assert "datasplits/cub/train_val_test_split.txt" in text
    for given in ("../mine.txt", str(cub.folder.parent / "mine.txt")):
        data = labelled("cub", cub.folder, split="redo-test", split_file=given)
        assert [sample.name for sample in data] == list(cub.splits["redo-test"])


def test_a_wrong_split_file_is_told(cub):
    official = str(cub.folder / "train_test_split.txt")
    text = refusal("cub", cub.folder, split="redo-test", split_file=official)
    assert "has other flags than those of the split 'redo-test' (0: 8, 1: 4)" in text
    path = cub.folder / "train_val_test_split.txt"
    path.write_text("1 0\n2 1\n3 2\n")
    assert "numbers 3 images, images.txt 12" in refusal("cub", cub.folder, split="redo-test")
    for content, said in (
        (b"\xff\xfe\0\1", "not a text file"), (b"", "is empty"), (b"1\n", "line 1 of the list"), (b"one two\n", "'one'"),
        (b"1 99999999999999\n", "where a number should be"),
    ):  # fmt: skip
        path.write_bytes(content)
        assert said in refusal("cub", cub.folder, split="redo-test")
    assert "root:" not in refusal("cub", cub.folder, split="redo-test", split_file="/etc/passwd")


HOSTILE = ("../../secret.jpg", "/etc/secret.jpg", "a/../../secret.jpg", "..\\secret.jpg", "C:/secret.jpg", "a//b.jpg",
           "a/./b.jpg", "x\x07.jpg", "y" * 400)  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_no_list_leads_outside(tmp_path, cub, name):
    lines = (cub.folder / "images.txt").read_text().splitlines()
    (cub.folder / "images.txt").write_text("\n".join([f"1 {name}", *lines[1:]]))
    assert "is not a path below" in refusal("cub", cub.folder)
    voc = make_miniature("voc", "year", tmp_path / "v")
    (voc.folder / "ImageSets" / "Segmentation" / "val.txt").write_text(name.removesuffix(".jpg") + "\n")
    assert "is not a path below" in refusal("voc", voc.folder)
    pets = make_miniature("oxford-pets", "official", tmp_path / "p")
    (pets.folder / "annotations" / "test.txt").write_text(f"{name.removesuffix('.jpg')} 1 1 1\n")
    assert "is not a path below" in refusal("oxford-pets", pets.folder, split="official-test")


def test_no_matlab_list_leads_outside(tmp_path):
    dogs = make_miniature("stanford-dogs", "official", tmp_path / "d")
    savemat(dogs.folder / "train_list.mat", {"file_list": np.array([["../../secret.jpg"], ["b.jpg"]], object)})
    assert "is not a path below" in refusal("stanford-dogs", dogs.folder, split="official-train")
    cars = make_miniature("stanford-cars", "torchvision", tmp_path / "c")
    row = np.array(
        [(1.0, 1.0, 5.0, 5.0, "../secret.jpg")],
        [(key, object) for key in ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "fname")],
    )
    savemat(cars.folder / "stanford_cars" / "devkit" / "cars_train_annos.mat", {"annotations": row})
    assert "is not a path below" in refusal("stanford-cars", cars.folder, split="official-train")


class Spy:
    """Unpickled, it would leave a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_lists_of_numpy_are_names_and_nothing_else(tmp_path):
    cars = make_miniature("stanford-cars", "data_mrcnn with lists", tmp_path / "c")
    path, spied = cars.folder / "data_mrcnn_train_select.npy", tmp_path / "spied"
    good = path.read_bytes()
    np.save(path, np.array([Spy(str(spied))], object), allow_pickle=True)
    assert "pickled objects, which are not read" in refusal("stanford-cars", cars.folder)
    assert not spied.exists()
    for content in (b"", good[:8], good[:40], good[:-3], b"PK\x03\x04" + good, b"\x93NUMPY\x01\x00\xff\xff" + good):
        path.write_bytes(content)
        assert "data_mrcnn_train_select.npy" in refusal("stanford-cars", cars.folder)
    for array in (np.zeros(3), np.array([["a"], ["b"]]), np.array([], str), np.array("a")):
        np.save(path, array)
        assert "one row of names" in refusal("stanford-cars", cars.folder)
    np.save(path, np.array(["../../secret"]))
    assert "is not a path below" in refusal("stanford-cars", cars.folder)
    np.save(path, np.array([b"0_a"]))
    assert len(labelled("stanford-cars", cars.folder, split="drc-train")) == 1


def test_damaged_matlab_lists_are_refused(tmp_path):
    mini = make_miniature("flowers102", "official", tmp_path / "a")
    path = mini.folder / "setid.mat"
    good = path.read_bytes()
    for content in (b"", b"MATLAB 5.0", good[:200], good[:150] + b"\xff" * 400, good[:128], b"\0" * 4000):
        path.write_bytes(content)
        assert "setid.mat" in refusal("flowers102", mini.folder)
    for table in ({"trnid": ["a"]}, {"trnid": [1.5]}, {"trnid": [-1.0]}, {"trnid": np.zeros((0, 0))}, {"other": [1.0]}):
        savemat(path, table)
        assert "has no numbers called" in refusal("flowers102", mini.folder, split="redo-test")
    savemat(path, {"trnid": [1.0, 1.0]})
    assert "name 'image_00001' twice" in refusal("flowers102", mini.folder, split="redo-test")


def test_boxes_that_are_none_are_refused(tmp_path, cub):
    dogs = make_miniature("stanford-dogs", "official", tmp_path / "d")
    next(path for path in (dogs.folder / "Annotation").rglob("*") if path.is_file()).write_text("<xmin>a</xmin>")
    assert "has no box" in refusal("stanford-dogs", dogs.folder, crop="box-1.5")
    (cub.folder / "bounding_boxes.txt").write_text("1 a b c d\n")
    assert "is no box" in refusal("cub", cub.folder, crop="box-1.5")


def test_a_mapping_of_other_faces_is_refused(tmp_path):
    mini = make_miniature("celebamask-hq", "official", tmp_path / "a")
    path = mini.folder / "CelebA-HQ-to-CelebA-mapping.txt"
    text = path.read_text()
    path.write_text(text.replace("162769", "162768"))
    assert "says that face 0 is number 162768" in refusal("celebamask-hq", mini.folder, split="official-train")
    path.write_text("\n".join(text.splitlines()[1:]))  # the copy without a header
    assert len(labelled("celebamask-hq", mini.folder, split="official-test")) == 2
    path.unlink()
    assert "CelebA-HQ-to-CelebA-mapping.txt" in refusal("celebamask-hq", mini.folder, split="official-test")


def test_prepared_folders_have_one_split(tmp_path):
    for name in ("cub", "flowers102"):
        mini = make_miniature(name, "prepared", tmp_path / name)
        assert "data_reader.split=redo-test" in refusal(name, mini.folder)


def test_splits_belong_to_layouts(tmp_path):
    mini = make_miniature("stanford-cars", "data_mrcnn", tmp_path / "a")
    assert "has no split 'official-test'" in refusal("stanford-cars", mini.folder, split="official-test")
    assert labelled("stanford-cars", mini.folder, split="drc-test").classes == ("background", "car")


def test_miniatures_are_written_into_empty_folders_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="is not empty"):
        make_miniature("cub", "official", tmp_path)
    for name, layout in (("cubs", "official"), ("cub", "unofficial")):
        with pytest.raises(ConfigError, match="miniature of"):
            make_miniature(name, layout, tmp_path / "new")


def test_a_reader_is_chosen_among_the_options_of_any_command(cub):
    from gsegkit.engine.readers import build_reader

    options = {"name": "cub", "split": "redo-test"}
    data = build_reader(options, REGISTRY, scaling="full", unknown=3).labelled(cub.folder)
    assert len(data) == 4
    assert data.scaling == "full"
    assert options == {"name": "cub", "split": "redo-test"}
    assert type(build_reader({}, REGISTRY)).__name__ == "FolderReader"
    with pytest.raises(UnknownPluginError, match="no dataset 'cups'"):
        build_reader({"name": "cups"}, REGISTRY)
    with pytest.raises(ConfigError, match="not a reader's name"):
        build_reader({"name": 3}, REGISTRY)
    with pytest.raises(ConfigError, match="no such option"):
        build_reader({"name": "cub", "masks": "x"}, REGISTRY)
