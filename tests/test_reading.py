"""Images of more than 8 bits, of several pages, in linked folders; files made to be slow."""

import struct
import time
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from gsegkit.errors import DataError
from gsegkit.images import image_size, read_image, read_mask
from gsegkit.reading.files import MAX_SCANS, list_images
from gsegkit.reading.images import list_pages, read_pages, read_photograph
from gsegkit.reading.scaling import check_scaling, in_words, scale


def values(low, high, shape=(40, 50), seed=0, dtype=np.uint16):
    return np.random.RandomState(seed).uniform(low, high, shape).astype(dtype)


def png16(path, array):
    """A PNG of 16 bits a channel, written by hand: Pillow writes grey ones only."""
    height, width, channels = array.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def tiff16(path, array, order="<"):
    """An uncompressed RGB TIFF of 16 bits a channel in either byte order, written by hand."""
    height, width, _ = array.shape
    data = array.astype(order + "u2").tobytes()
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 14)]
    tags += [(277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, len(data))]
    directory = struct.pack(order + "H", len(tags))
    for tag, kind, count, value in tags:
        field = struct.pack(
            order + ("HH" if kind == 3 and count == 1 else "I"), *([value, 0] if kind == 3 and count == 1 else [value])
        )
        directory += struct.pack(order + "HHI", tag, kind, count) + field
    start = 14 + len(data)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    path.write_bytes(
        mark + struct.pack(order + "I", start) + struct.pack(order + "HHH", 16, 16, 16) + data + directory + b"\0" * 4
    )


def expected(array, low, high):
    return np.clip((array.astype(np.float64) - low) / (high - low) * 255 + 0.5, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_images_of_16_bits_are_scaled_by_percentiles(tmp_path, suffix):
    array = values(300, 3000)
    array[0, 0] = 65535  # a hot pixel
    Image.fromarray(array).save(tmp_path / f"x.{suffix}")
    found = read_photograph(tmp_path / f"x.{suffix}")
    assert found.notes == ("scaled from 16 bits (percentile)",)
    low, high = np.percentile(array, [0.1, 99.9], method="lower")
    assert (found.pixels == found.pixels[:1]).all()
    assert np.abs(found.pixels[0].numpy().astype(int) - expected(array, low, high)).max() <= 1
    assert read_image(tmp_path / f"x.{suffix}").min() == 0
    assert 120 < read_image(tmp_path / f"x.{suffix}").float().mean() < 136


@pytest.mark.parametrize("scaling", ["full", "range:0:4095", "range:-1e3:5e3"])
@pytest.mark.parametrize("kind", ["png16", "tiff<", "tiff>"])
def test_colours_of_16_bits_are_scaled_from_all_their_bits(tmp_path, scaling, kind):
    """Pillow keeps the upper byte alone: a dark microscope picture would have 12 grey values."""
    array = values(0, 3000, (20, 30, 3))
    path = tmp_path / "x.image"
    png16(path, array) if kind == "png16" else tiff16(path, array, kind[-1])
    low, high = {"full": (0, 65535), "range:0:4095": (0, 4095)}.get(scaling, (-1000, 5000))
    assert np.array_equal(read_image(path, scaling).permute(1, 2, 0).numpy(), expected(array, low, high))
    assert read_photograph(path).notes == ("scaled from 16 bits (percentile)",)


def test_transparency_of_16_bits(tmp_path):
    array = values(0, 65535, (20, 30, 4))
    array[..., 3] = 65535
    array[:10, :, 3] = 0
    png16(tmp_path / "x.png", array)
    found = read_photograph(tmp_path / "x.png", "full")
    assert (found.pixels[:, :10] == 255).all()
    assert np.array_equal(found.pixels[:, 10:].permute(1, 2, 0).numpy(), expected(array[10:, :, :3], 0, 65535))
    assert found.notes == ("scaled from 16 bits (full)", "transparency composited on white")
    png16(tmp_path / "grey.png", array[..., 2:])  # grey with transparency
    assert read_image(tmp_path / "grey.png", "full").shape == (3, 20, 30)


def test_floats_and_long_integers(tmp_path):
    array = values(-2, 7, dtype=np.float32)
    array[0, :3] = np.nan, np.inf, -np.inf
    Image.fromarray(array).save(tmp_path / "f.tif")
    found = read_image(tmp_path / "f.tif")
    assert found[0, 0, :3].tolist() == [0, 255, 0]
    assert 120 < found.float().mean() < 136
    with pytest.raises(DataError, match=r"outside of 0 .. 1") as caught:
        read_image(tmp_path / "f.tif", "full")
    assert "range:LOW:HIGH" in caught.value.hint
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / "nan.tif")
    with pytest.raises(DataError, match="no finite value"):
        read_image(tmp_path / "nan.tif")
    Image.fromarray(values(0, 1, dtype=np.float32)).save(tmp_path / "one.tif")
    assert 120 < read_image(tmp_path / "one.tif", "full").float().mean() < 136
    Image.fromarray(values(-50, 90, dtype=np.int32)).save(tmp_path / "i.tif")
    assert read_photograph(tmp_path / "i.tif").notes == ("scaled from 32 bits (percentile)",)


def test_pictures_without_contrast_and_with_a_few_bright_spots():
    flat = np.full((30, 40), 900, np.uint16)
    assert scale(flat, "percentile", (0, 65535), "x").max() == 0
    flat[3, 3:5] = 60000  # fewer than a thousandth: percentiles would be equal
    assert sorted(np.unique(scale(flat, "percentile", (0, 65535), "x"))) == [0, 255]


def test_8_bits_are_never_changed(tmp_path):
    array = values(90, 110, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "x.png")
    found = read_photograph(tmp_path / "x.png", "range:0:10")
    assert np.array_equal(found.pixels.permute(1, 2, 0).numpy(), array)
    assert found.notes == ()


@pytest.mark.parametrize("text", ["", "auto", "FULL", "range", "range:3:3", "range:5:1", "range:nan:1", "percentile:-1:5",
                                  "percentile:1:101", "range:0:" + "9" * 400, "range:0:1e999", "range:-1e308:1e308", "range:1:2\n"])  # fmt: skip
def test_what_is_no_scaling(text):
    with pytest.raises(ValueError, match="a scaling is"):
        check_scaling(text)


def test_a_scaling_says_what_it_does():
    assert "percentile 0.1 becomes 0 and percentile 99.9 becomes 255" in in_words("percentile")
    assert in_words("range:0:4095") == "0 becomes 0 and 4095 becomes 255"


def test_masks_with_fractions_are_refused(tmp_path):
    Image.fromarray(values(0, 3, dtype=np.float32)).save(tmp_path / "m.tif")
    with pytest.raises(DataError, match="holds fractions"):
        read_mask(tmp_path / "m.tif")
    Image.fromarray(np.floor(values(0, 3, dtype=np.float32))).save(tmp_path / "m.tif")
    assert read_mask(tmp_path / "m.tif").unique().tolist() == [0, 1, 2]


# ---- pages -------------------------------------------------------------------------------------------------------


def frames(count=3, size=(20, 30)):
    return [Image.fromarray(values(0, 255, (*size, 3), seed, np.uint8)) for seed in range(count)]


@pytest.mark.parametrize("suffix", ["tif", "gif", "png", "webp"])
def test_every_page_of_a_file_is_a_photograph(tmp_path, suffix):
    first, *rest = frames()
    lossless = {"lossless": True} if suffix == "webp" else {}
    first.save(tmp_path / f"x.{suffix}", save_all=True, append_images=rest, **lossless)
    pages, other = list_pages(tmp_path / f"x.{suffix}")
    assert (pages, other) == ([0, 1, 2], 0)
    found = [page.pixels.float() for page in read_pages(tmp_path / f"x.{suffix}", pages)]
    for page, frame in zip(found, [first, *rest], strict=True):
        want = torch.from_numpy(np.array(frame)).permute(2, 0, 1).float()
        assert (page - want).abs().mean() < (25 if suffix == "gif" else 0.01)  # a GIF has 256 colours
    assert read_photograph(tmp_path / f"x.{suffix}").notes == ("page 1 of several",)


def test_pages_of_different_kinds_and_thumbnails(tmp_path):
    large, small = Image.fromarray(values(0, 4000)), frames(1, (9, 9))[0]
    large.save(tmp_path / "x.tif", save_all=True, append_images=[small, small])
    data = bytearray((tmp_path / "x.tif").read_bytes())
    found = list(read_pages(tmp_path / "x.tif", [0, 1, 2]))
    assert [tuple(page.pixels.shape) for page in found] == [(3, 40, 50), (3, 9, 9), (3, 9, 9)]
    assert [page.notes for page in found] == [("scaled from 16 bits (percentile)",), (), ()]
    small.save(tmp_path / "y.tif", save_all=True, append_images=[small], tiffinfo={254: 1})
    assert list_pages(tmp_path / "y.tif") == ([0], 1)
    cut = tmp_path / "cut.tif"
    cut.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"cut\.tif"):
        list_pages(cut)


def test_a_page_that_is_damaged_does_not_stop_the_others(tmp_path, damage_page):
    first, *rest = frames()
    first.save(tmp_path / "x.tif", save_all=True, append_images=rest, compression="tiff_adobe_deflate")
    damage_page(tmp_path / "x.tif")
    found = list(read_pages(tmp_path / "x.tif", [0, 1, 2]))
    assert [isinstance(page, DataError) for page in found] == [False, True, False]


def test_a_second_picture_in_a_jpeg_is_no_page(tmp_path):
    first, second = frames(2)
    first.save(tmp_path / "x.jpg", "MPO", save_all=True, append_images=[second])
    assert list_pages(tmp_path / "x.jpg") == ([0], 0)
    assert read_photograph(tmp_path / "x.jpg").notes == ()


# ---- folders and slow files ----------------------------------------------------------------------------------------


def test_linked_folders_are_followed_once(tmp_path):
    data, other = tmp_path / "data", tmp_path / "elsewhere"
    for path in (data / "a.png", data / "real" / "b.png", other / "c.png", other / "deep" / "d.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (data / "link").symlink_to(other)
    (data / "again").symlink_to(other / "deep")  # it is reached twice: by whichever name comes first
    (data / "real" / "up").symlink_to(data)  # a circle
    (data / "same").symlink_to(data / "real")
    (data / "gone").symlink_to(tmp_path / "nowhere")
    found = [str(path.relative_to(data)) for path in list_images(data)]
    assert found == ["a.png", "again/d.png", "link/c.png", "real/b.png"]


def test_links_that_multiply_end(tmp_path):
    for number in range(25):
        (tmp_path / f"{number}").mkdir()
    (tmp_path / "24" / "x.png").write_bytes(b"x")
    for number in range(24):
        for name in "abc":
            (tmp_path / f"{number}" / name).symlink_to(tmp_path / f"{number + 1}")
    started = time.monotonic()
    assert len(list_images(tmp_path / "0")) == 1
    assert time.monotonic() - started < 5


def test_a_jpeg_of_hundreds_of_scans_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "x.jpg"
    frames(1, (64, 64))[0].save(path, "JPEG", progressive=True)
    data = path.read_bytes()
    assert read_image(path).shape == (3, 64, 64)
    start = data.rindex(b"\xff\xda")
    path.write_bytes(data[:start] + data[start:-2] * (MAX_SCANS + 1) + data[-2:])
    with pytest.raises(DataError, match=r"progressive JPEG of 1.. scans"):
        read_image(path)


def test_words_of_the_decoder_stay_inside(tmp_path):
    path = tmp_path / "x.png"
    frames(1)[0].save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"ends too early|cannot be decoded") as caught:
        read_image(path)
    assert "<" not in caught.value.message
    path.write_bytes(data[:60] + b"\0" * 200 + data[260:])
    with pytest.raises(DataError, match="is damaged: ") as caught:
        read_image(path)
    assert "chunk" not in caught.value.message


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "L", "CMYK", "1"])
@pytest.mark.parametrize("turned", [False, True])
def test_strips_are_converted_as_the_whole_image_is(tmp_path, monkeypatch, mode, turned):
    """A large image is never converted at once."""
    array = np.random.default_rng(0).integers(0, 256, (37, 23, 4), dtype=np.uint8)
    image = Image.fromarray(array, "RGBA")
    image = image.convert("RGB").convert(mode) if mode in ("P", "CMYK", "1") else image.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1
    path = tmp_path / "image.tif"
    image.save(path, exif=exif)
    whole = read_photograph(path)
    monkeypatch.setattr("gsegkit.reading.images.STRIP_PIXELS", 60)
    strips = read_photograph(path)
    assert torch.equal(strips.pixels, whole.pixels)
    assert strips.notes == whole.notes
    upright = image.convert("RGBA").transpose(Image.Transpose.ROTATE_270) if turned else image.convert("RGBA")
    white = Image.alpha_composite(Image.new("RGBA", upright.size, (255, 255, 255, 255)), upright).convert("RGB")
    assert torch.equal(whole.pixels, torch.from_numpy(np.array(white)).permute(2, 0, 1))
    assert ("turned upright (EXIF)" in whole.notes) == turned
    assert image_size(path) == tuple(whole.pixels.shape[1:])
    assert ("transparency composited on white" in whole.notes) == (mode in ("RGBA", "LA"))


def test_grey_with_transparency_of_16_bits_says_what_was_read(tmp_path):
    """Pillow decodes the upper byte alone, and writes no such file: it is made by hand."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\x00" + struct.pack(">4H", 256 * y, 65535, 30000 + y, 65535) for y in range(8))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 8, 16, 4, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "x.png").write_bytes(data)
    found = read_photograph(tmp_path / "x.png")
    assert found.pixels.shape == (3, 8, 2)
    assert any("upper 8 of 16 bits" in note for note in found.notes)
