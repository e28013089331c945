"""What is seen in a folder of photographs."""

from __future__ import annotations

import json

import torch

from gsegkit import api
from gsegkit.images import resize_pixels, write_png
from gsegkit.looking.duplicates import near_duplicates
from gsegkit.looking.measure import measure
from gsegkit.looking.words import sentences


def noise(seed, size=(32, 32), side=8):
    """Blotches: an image unlike that of any other seed."""
    pixels = torch.randint(0, 256, (1, 3, side, side), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return resize_pixels(pixels, size)[0]


def framed(seed, size=(32, 32)):
    """The same, with a bright square in the middle."""
    pixels = noise(seed, size) // 3
    height, width = size
    pixels[:, height // 4 : -height // 4, width // 4 : -width // 4] = 200 + noise(seed + 1000)[:, :1, :1] // 8
    return pixels


def folder_of(path, images):
    path.mkdir()
    for name, pixels in images.items():
        write_png(path / name, pixels)
    return path


def test_near_duplicates_are_groups_and_others_are_not(tmp_path):
    first, second = noise(1, (64, 64)), noise(2, (64, 64))
    darker = (first.float() * 0.985).to(torch.uint8)
    smaller = resize_pixels(first[None], (40, 40))[0]
    night = (first.float() * 0.3).to(torch.uint8)
    images = [noise(3, (64, 64)), first, second, darker, smaller, night, second.flip(2)]
    assert near_duplicates([measure(one)[0] for one in images]) == [[1, 3, 4]]
    assert near_duplicates([measure(one)[0] for one in images[:1]]) == []


def test_a_slow_film_is_thinned_not_collapsed():
    first, last = noise(1, (64, 64)).float(), noise(2, (64, 64)).float()
    film = [torch.lerp(first, last, i / 99).to(torch.uint8) for i in range(100)]
    groups = near_duplicates([measure(one)[0] for one in film])
    assert 3 < len(groups) < 50
    assert sum(len(group) for group in groups) <= 100
    same = [measure(film[0])[0]] * 3000
    assert near_duplicates(same) == [list(range(3000))]


def test_framing_colours_sizes_and_what_cannot_be_read(tmp_path):
    grey = {
        f"g{i}.png": framed(i, (32, 48)).float().mean(0, keepdim=True).repeat(3, 1, 1).to(torch.uint8)
        for i in range(12)
    }
    centred = api.look(folder_of(tmp_path / "a", grey))
    assert centred.framed
    assert centred.grey == 1.0
    assert centred.ratio.median == 1.5
    assert centred.mirrored
    mixed = {f"n{i}.png": noise(i, (32, 32 + 4 * i)) for i in range(12)}
    folder = folder_of(tmp_path / "b", mixed)
    (folder / "z.png").write_bytes(b"none")
    anywhere = api.look(folder)
    assert not anywhere.framed
    assert anywhere.grey == 0.0
    assert anywhere.unreadable == ("z.png",)
    assert anywhere.usable == 12
    assert anywhere.photographs == 13
    assert (anywhere.width.least, anywhere.width.most) == (32.0, 76.0)
    said = " ".join(sentences(anywhere))
    for words in (
        "13 photographs",
        "between 32 x 32 and 76 x 32",
        "Aspect ratios",
        "z.png",
        "textures rather than parts",
    ):
        assert words in said
    assert "grey, so methods that go by colour" in " ".join(sentences(centred))


def test_a_picture_that_leans_is_not_mirrored(tmp_path):
    leaning = {}
    for i in range(40):
        pixels = noise(i) // 3
        pixels[:, :, :12] += 120
        leaning[f"l{i}.png"] = pixels
    assert not api.look(folder_of(tmp_path / "a", leaning)).mirrored


def test_the_command_prints_sentences_or_json(tmp_path, call):
    folder = folder_of(tmp_path / "a", {f"n{i}.png": noise(i) for i in range(5)})
    code, out, err = call("start", folder, "--look")
    assert code == 0
    assert "5 photographs; all about 32 x 32; in colour." in err
    assert out == ""
    code, out, err = call("start", folder, "--look", "--json", "--quiet")
    found = json.loads(out)
    assert found["photographs"] == 5
    assert found["framed"] is False
    assert found["sentences"]
    assert sorted(path.name for path in folder.iterdir()) == [f"n{i}.png" for i in range(5)], "nothing was written"
