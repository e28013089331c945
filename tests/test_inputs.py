"""What `predict` is given: several paths, pages, animations, videos; and that all that was skipped or changed is told."""

import json
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from gsegkit.errors import ConfigError, DataError, MissingDependencyError
from gsegkit.exports.predictions import predict_files
from gsegkit.images import read_image, read_mask
from gsegkit.storage import read_json


class Bright:
    """Two classes by the red channel."""

    classes = ("dark", "bright")
    scaling = "percentile"

    def probs(self, pixels):
        bright = pixels[:, 0].float() / 255
        return torch.stack([1 - bright, bright], dim=1)


def frame(number, size=(24, 32)):
    """Dark, with a bright column at a place of its own."""
    array = np.full((*size, 3), 30, np.uint8)
    array[:, 4 * number : 4 * number + 4] = 230
    return Image.fromarray(array)


def bright_columns(mask):
    return sorted(set((mask == 1).nonzero()[:, 1].tolist()))


def predict(out, *inputs, formats=("label",), **options):
    return predict_files(Bright(), [str(path) for path in inputs], out, formats, **options)


def test_pages_and_frames_are_photographs_of_their_own(tmp_path):
    frame(0).save(tmp_path / "stack.tif", save_all=True, append_images=[frame(1), frame(2)])
    frame(3).save(tmp_path / "anim.gif", save_all=True, append_images=[frame(4)], duration=100)
    frame(5).save(tmp_path / "one.tif")
    (tmp_path / "sub").mkdir()
    frame(6).save(tmp_path / "sub" / "plain.png")
    done = predict(
        tmp_path / "out", tmp_path / "stack.tif", tmp_path / "anim.gif", tmp_path / "one.tif", tmp_path / "sub"
    )
    labels = tmp_path / "out" / "labels"
    names = {path.relative_to(labels).as_posix(): bright_columns(read_mask(path)) for path in labels.rglob("*.png")}
    assert names == {
        **{f"stack-page-{i + 1}.png": list(range(4 * i, 4 * i + 4)) for i in range(3)},
        **{f"anim-frame-{i - 2}.png": list(range(4 * i, 4 * i + 4)) for i in (3, 4)},
        "one.png": [20, 21, 22, 23],
        "sub/plain.png": [24, 25, 26, 27],
    }
    record = read_json(tmp_path / "out" / "predictions.json")
    assert record["files"][f"{tmp_path / 'stack.tif'}#2"] == "stack-page-2"
    assert record["changed"][f"{tmp_path / 'anim.gif'}#1"] == ["one of several pages"]
    assert done.written == 7
    assert "changed: one of several pages: 5" in str(done)


def test_names_of_pages_give_way_to_files_of_that_name(tmp_path):
    frame(0).save(tmp_path / "a.tif", save_all=True, append_images=[frame(1)])
    frame(2).save(tmp_path / "a-page-1.tif")
    frame(3).save(tmp_path / "a-page-2.png")
    predict(tmp_path / "out", tmp_path / "a.tif", tmp_path / "a-page-1.tif", tmp_path / "a-page-2.png")
    found = sorted(bright_columns(read_mask(path))[0] for path in (tmp_path / "out" / "labels").iterdir())
    assert found == [0, 4, 8, 12]


def test_coco_names_the_page(tmp_path):
    frame(0).save(tmp_path / "a.tif", save_all=True, append_images=[frame(1)])
    predict(tmp_path / "out", tmp_path / "a.tif", formats=("coco",))
    images = json.loads((tmp_path / "out" / "coco.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["a.tif#1", "a.tif#2"]


def test_what_was_changed_and_skipped_is_told(tmp_path):
    data = tmp_path / "in"
    data.mkdir()
    Image.fromarray(np.random.RandomState(0).uniform(0, 3000, (9, 9)).astype(np.uint16)).save(data / "deep.png")
    Image.new("RGBA", (9, 9), (200, 0, 0, 100)).save(data / "alpha.png")
    Image.new("RGBA", (9, 9), (200, 0, 0, 255)).save(data / "opaque.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (9, 5)).save(data / "turned.jpg", exif=exif)
    Image.new("CMYK", (9, 5)).save(data / "print.jpg")
    # a TIFF's second page that is a smaller copy of the first
    frame(0).save(data / "pyramid.tif", save_all=True, append_images=[frame(0, (12, 16))], tiffinfo={254: 1})
    done = predict(tmp_path / "out", data)
    record = read_json(tmp_path / "out" / "predictions.json")
    assert {key.rpartition("/")[2]: notes for key, notes in record["changed"].items()} == {
        "deep.png": ["scaled from 16 bits (percentile)"],
        "alpha.png": ["transparency composited on white"],
        "turned.jpg": ["turned upright (EXIF)"],
        "print.jpg": ["colours converted from CMYK"],
        "pyramid.tif": ["page 1 of several"],
    }
    assert list(record["skipped"]) == [f"{data / 'pyramid.tif'}: 1 of its pages"]
    assert "scaled from 16 bits (percentile): 1" in str(done)
    assert "skipped: " in str(done)


def test_the_scaling_is_the_segmenters_unless_another_is_asked_for(tmp_path):
    array = np.full((9, 9), 100, np.uint16)
    array[:, 5:] = 3000
    Image.fromarray(array).save(tmp_path / "x.png")
    predict(tmp_path / "a", tmp_path / "x.png")
    assert bright_columns(read_mask(tmp_path / "a" / "labels" / "x.png")) == [5, 6, 7, 8]
    predict(tmp_path / "b", tmp_path / "x.png", scaling="full")
    assert bright_columns(read_mask(tmp_path / "b" / "labels" / "x.png")) == []
    assert read_json(tmp_path / "b" / "predictions.json")["scaling"] == "full"
    trained = type("Trained", (Bright,), {"scaling": "range:2000:9000"})()
    predict_files(trained, tmp_path / "x.png", tmp_path / "c", ("label",))
    assert read_json(tmp_path / "c" / "predictions.json")["scaling"] == "range:2000:9000"
    with pytest.raises(ConfigError, match="is not a scaling"):
        predict(tmp_path / "d", tmp_path / "x.png", scaling="best")
    assert not (tmp_path / "d").exists()


def test_one_damaged_page_does_not_stop_the_others(tmp_path, damage_page):
    frame(0).save(tmp_path / "x.tif", save_all=True, append_images=[frame(1), frame(2)], compression="tiff_lzw")
    damage_page(tmp_path / "x.tif")
    with pytest.raises(DataError, match="1 of 3 images"):
        predict(tmp_path / "out", tmp_path / "x.tif")
    assert len(list((tmp_path / "out" / "labels").iterdir())) == 2
    assert list(read_json(tmp_path / "out" / "predictions.json")["bad"]) == [f"{tmp_path / 'x.tif'}#2"]


def test_the_command_takes_several_paths(tmp_path, call):
    code, _, error = call("predict", str(tmp_path), "a.png", "b.png", "--out", str(tmp_path / "out"))
    assert code == 2
    assert "unexpected extra argument" not in error


# ---- videos --------------------------------------------------------------------------------------------------------


def video(path, count=5, codec="ffv1", pixel_format="bgr0", form=None, size=(24, 32)):
    av = pytest.importorskip("av")
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = *size, pixel_format
        for number in range(count):
            made = av.VideoFrame.from_ndarray(np.array(frame(number, size)), format="rgb24")
            container.mux(stream.encode(made))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("a.mkv", "ffv1", "bgr0"),
        ("a.mp4", "libx264", "yuv444p"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.mov", "mjpeg", "yuvj444p"),
    ],
)
def test_every_frame_of_a_video_is_a_photograph(tmp_path, name, codec, pixel_format):
    video(tmp_path / name, codec=codec, pixel_format=pixel_format)
    frame(6).save(tmp_path / "b.png")
    done = predict(tmp_path / "out", tmp_path / name, tmp_path / "b.png")
    labels = tmp_path / "out" / "labels"
    assert sorted(path.name for path in labels.iterdir()) == [*(f"a-frame-{i}.png" for i in range(1, 6)), "b.png"]
    assert done.written == 6
    for number in range(5):
        columns = bright_columns(read_mask(labels / f"a-frame-{number + 1}.png"))
        assert columns[0] in range(4 * number - 1, 4 * number + 2)
        assert 2 <= len(columns) <= 6


def test_masks_as_videos_are_exact(tmp_path):
    av = pytest.importorskip("av")
    (tmp_path / "in").mkdir()
    video(tmp_path / "in" / "a.mkv", size=(25, 33))
    frame(6).save(tmp_path / "in" / "b.png")
    predict(tmp_path / "out", tmp_path / "in", formats=("label", "overlay"), frames="video")
    made = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert made == ["labels/a.mkv", "labels/b.png", "overlays/a.mp4", "overlays/b.png", "predictions.json"]
    with av.open(str(tmp_path / "out" / "labels" / "a.mkv")) as container:
        masks = [one.to_ndarray(format="gray") for one in container.decode(video=0)]
        assert container.streams.video[0].average_rate == Fraction(10)
    predict(tmp_path / "stills", tmp_path / "in", frames="images")
    for number, mask in enumerate(masks):
        still = read_mask(tmp_path / "stills" / "labels" / f"a-frame-{number + 1}.png")
        assert torch.equal(torch.from_numpy(mask), still)
    with av.open(str(tmp_path / "out" / "overlays" / "a.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5
    record = read_json(tmp_path / "out" / "predictions.json")
    assert record["files"][str(tmp_path / "in" / "a.mkv")] == "a"
    predict(tmp_path / "out", tmp_path / "in", formats=("label", "overlay"), frames="video")  # our own are replaced
    with pytest.raises(ConfigError, match="no videos in the format 'coco'"):
        predict(tmp_path / "x", tmp_path / "in", formats=("coco",), frames="video")
    with pytest.raises(ConfigError, match="frames become"):
        predict(tmp_path / "x", tmp_path / "in", frames="gif")


def test_a_video_of_the_users_is_not_overwritten(tmp_path):
    video(tmp_path / "a.mkv")
    (tmp_path / "out" / "labels").mkdir(parents=True)
    (tmp_path / "out" / "labels" / "a.mkv").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="would be overwritten"):
        predict(tmp_path / "out", tmp_path / "a.mkv", frames="video")
    assert (tmp_path / "out" / "labels" / "a.mkv").read_bytes() == b"mine"


def test_a_video_that_ends_early_gives_the_frames_that_are_there(tmp_path):
    data = video(tmp_path / "a.mkv", count=6).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"cut\.mkv") as caught:
        predict(tmp_path / "out", tmp_path / "cut.mkv", tmp_path / "a.mkv")
    assert "Traceback" not in str(caught.value)
    assert len(list((tmp_path / "out" / "labels").glob("a-frame-*.png"))) == 6


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no video",
        b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile secret.mkv\n",
    ],
)
@pytest.mark.parametrize("name", ["x.mp4", "x.mkv", "x.avi", "x.mpg", "x.wmv"])
def test_what_only_is_called_a_video_opens_no_other_file(tmp_path, content, name):
    pytest.importorskip("av")
    video(tmp_path / "secret.mkv")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=r"x\.\w+"):
        predict(tmp_path / "out", tmp_path / name)
    assert not list((tmp_path / "out").rglob("*.png"))


def test_without_the_extra_a_video_is_refused_or_told(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp4").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr("gsegkit.exports.inputs.can_read_videos", lambda: False)
    for given in (tmp_path / "in" / "a.mp4", tmp_path / "in"):
        with pytest.raises(MissingDependencyError, match="videos need the package 'av'") as caught:
            predict(tmp_path / "out", given)
        assert "gsegkit[video]" in caught.value.hint
    frame(0).save(tmp_path / "in" / "b.png")
    done = predict(tmp_path / "out", tmp_path / "in")
    assert done.written == 1
    assert "gsegkit[video]" in str(done)
    assert list(read_json(tmp_path / "out" / "predictions.json")["skipped"]) == [str(tmp_path / "in" / "a.mp4")]


def test_frames_that_were_filmed_upright_are_turned(tmp_path):
    """Phones store the sensor's frame and a matrix beside it."""
    data = bytearray(video(tmp_path / "a.mp4", codec="libx264", pixel_format="yuv444p").read_bytes())
    header = data.index(b"tkhd") + 4
    matrix = header + 40
    quarter = [0, 0x10000, 0, -0x10000, 0, 0, 24 << 16, 0, 0x40000000]  # 90 degrees clockwise
    data[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in quarter)
    (tmp_path / "turned.mp4").write_bytes(data)
    predict(tmp_path / "out", tmp_path / "turned.mp4", formats=("label", "overlay"))
    mask = read_mask(tmp_path / "out" / "labels" / "turned-frame-1.png")
    assert tuple(mask.shape) == (32, 24)
    rows = sorted(set((mask == 1).nonzero()[:, 0].tolist()))
    assert rows[0] <= 1  # the left columns of the sensor are the top rows of the picture
    assert rows[-1] <= 5
    assert read_image(tmp_path / "out" / "overlays" / "turned-frame-1.png").shape == (3, 32, 24)
