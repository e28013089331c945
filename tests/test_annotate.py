"""gsegkit annotate: pictures of a run with first masks, and what a person did to them is never lost."""

import json

import pytest
import torch
import yaml
from PIL import Image

import gsegkit
from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.native import Native
from gsegkit.builtin.toy import Toy
from gsegkit.config import Config
from gsegkit.context import RunContext
from gsegkit.editing.drafts import DraftMaker
from gsegkit.editing.folder import AnnotationFolder
from gsegkit.errors import ArtifactError, ConfigError, DataError
from gsegkit.images import png_bytes, read_image, read_mask, to_pixels, write_png
from gsegkit.parts import save_part
from gsegkit.seeds import sample_seeds
from gsegkit.types import MaskBatch

SIZE = 16
NAMES = ["rest#102030=0", "thing#405060=1,2"]


def made_run(folder, **options):
    """What a run leaves of its generator and extractor."""
    folder.mkdir()
    options = {"size": SIZE, "num_classes": 0, **options}
    plan = {"gen": {"name": "toy", "options": options}, "extractor": {"name": "native"}, "seg": {"name": "tiny"}}
    (folder / "config.json").write_text(json.dumps({**plan, "batch_size": 3}))
    extractor = Native(Config())
    extractor.fit(Toy(ToyConfig(**options)), RunContext(folder))
    save_part(extractor, folder / "extractor", "extractor", "native")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return made_run(tmp_path_factory.mktemp("annotate") / "cells")


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_pictures_and_first_masks(run, tmp_path, call):
    todo = tmp_path / "to do"
    names = gsegkit.name(run, NAMES, ignore="3", save=tmp_path / "classes.yaml")
    code, out, said = call("annotate", run, "--samples", 4, "--out", todo, "--classes", tmp_path / "classes.yaml", "-q")
    assert (code, out) == (0, ""), said
    assert f"next: gsegkit paint '{todo}' --serve" in said
    seeds = sample_seeds(0, "annotate", 0, 4)
    stems = {f"{seed}.png" for seed in seeds.tolist()}
    assert {path.name for path in (todo / "images").iterdir()} == stems
    assert yaml.safe_load((todo / "classes.yaml").read_text()) == ["rest", "thing"]
    generator = gsegkit.load(run, "generator")
    seen = to_pixels(generator.sample(seeds).images)
    probs = generator.sample(seeds).probs
    merged = torch.stack([probs[:, 0], probs[:, 1:3].sum(1)], dim=1)
    ignored = probs[:, 3] > merged.amax(1)
    share = merged / merged.sum(1, keepdim=True).clamp_min(1e-6)
    wanted = share.argmax(1).to(torch.uint8).masked_fill(ignored, 255)
    assert (wanted == 255).any()
    for seed, pixels, mask in zip(seeds.tolist(), seen, wanted, strict=True):
        assert (read_image(todo / "images" / f"{seed}.png").int() - pixels.int()).abs().max() <= 1
        assert torch.equal(read_mask(todo / "masks" / f"{seed}.png"), mask)
        assert (todo / "drafts" / f"{seed}.png").read_bytes() == (todo / "masks" / f"{seed}.png").read_bytes()
        with Image.open(todo / "masks" / f"{seed}.png") as image:
            assert image.mode == "P"
            assert image.getpalette()[:6] == [0x10, 0x20, 0x30, 0x40, 0x50, 0x60]
    record = json.loads((todo / "annotate.json").read_text())
    assert record["generator"]["name"] == "toy"
    assert record["generator"]["options"]["size"] == SIZE
    assert len(record["generator"]["weights"]) == 16
    assert (record["size"], record["batch_size"], record["colours"]) == ([SIZE, SIZE], 3, ["#102030", "#405060"])
    draft = record["pictures"][0]["draft"]
    assert [one["seed"] for one in record["pictures"]] == seeds.tolist()
    assert draft == gsegkit.load(run, "extractor").fingerprint() == names.extractor


def test_what_a_person_did_stays(run, tmp_path):
    todo = gsegkit.annotate(run, tmp_path / "todo", num_samples=4)
    first, second, third = (str(seed) for seed in sample_seeds(0, "annotate", 0, 3).tolist())
    painted = png_bytes(torch.full((SIZE, SIZE), 2, dtype=torch.uint8))
    (todo / "masks" / f"{first}.png").write_bytes(painted)
    for inner in ("images", "masks"):
        (todo / inner / f"{second}.png").unlink()  # a picture that is broken
    before = content(todo)
    with (todo / "classes.yaml").open("a") as file:
        file.write("- nucleolus\n")
    gsegkit.annotate(run, todo, num_samples=7)
    after = content(todo)
    assert len(list((todo / "images").iterdir())) == 6, "what was removed stays removed"
    assert {name for name, data in before.items() if after[name] != data} == {"annotate.json", "classes.yaml"} | (
        {".lock"} if before[".lock"] != after[".lock"] else set()
    )
    assert "nucleolus" in after["classes.yaml"].decode()
    record = json.loads(after["annotate.json"])
    assert [one["seed"] for one in record["pictures"]] == sample_seeds(0, "annotate", 0, 7).tolist()
    # the pictures do not depend on how often the command was called
    other = gsegkit.annotate(run, tmp_path / "other", num_samples=7)
    assert content(other / "images") == {
        **content(todo / "images"), f"{second}.png": (other / "images" / f"{second}.png").read_bytes(),
    }  # fmt: skip
    # and after an interruption, when annotate.json does not know a picture yet, its mask is safe too
    record["pictures"] = record["pictures"][:2]
    (todo / "annotate.json").write_text(json.dumps(record))
    (todo / "masks" / f"{third}.png").write_bytes(painted)
    gsegkit.annotate(run, todo, num_samples=7, draft=False)
    for name in (first, third):
        assert (todo / "masks" / f"{name}.png").read_bytes() == painted


def test_without_drafts_all_is_unknown(run, tmp_path):
    todo = gsegkit.annotate(run, tmp_path / "todo", num_samples=2, draft=False)
    for path in (todo / "masks").iterdir():
        assert (read_mask(path) == 255).all()
    assert {one["draft"] for one in json.loads((todo / "annotate.json").read_text())["pictures"]} == {""}


def test_other_folders_are_refused(run, tmp_path, call):
    todo = gsegkit.annotate(run, tmp_path / "todo", num_samples=1)
    before = content(todo)
    other = made_run(tmp_path / "other", num_classes=3)
    with pytest.raises(ConfigError, match="made by another generator"):
        gsegkit.annotate(other, todo, num_samples=2)
    with pytest.raises(ConfigError, match="has other classes: "):
        gsegkit.annotate(run, todo, num_samples=2, classes=gsegkit.name(run, NAMES, ignore="3"))
    with pytest.raises(ConfigError, match="0 pictures"):
        gsegkit.annotate(run, todo, num_samples=0)
    with pytest.raises(DataError, match="lies in the run"):
        gsegkit.annotate(run, run / "todo")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("x")
    code, _, said = call("annotate", run, "--out", tmp_path / "mine", "-q")
    assert (code, "is not empty and not one that gsegkit annotate made" in " ".join(said.split())) == (2, True)
    assert call("annotate", tmp_path / "none", "--out", tmp_path / "new")[0] == 2
    assert not (tmp_path / "new").exists()
    assert {**content(todo), ".lock": b""} == {**before, ".lock": b""}
    (todo / "annotate.json").write_text('{"pictures": 7}')
    with pytest.raises(ArtifactError, match="is not the record it should be"):
        gsegkit.annotate(run, todo)


def test_what_is_not_probable_is_unknown():
    class Doubtful(Native):
        def extract(self, batch, generator):
            probs = torch.tensor([0.6, 0.3, 0.1, 0.0]).view(1, 4, 1, 1).repeat(len(batch.images), 1, SIZE, SIZE)
            probs[:, :, 0] = torch.tensor([0.45, 0.3, 0.15, 0.1]).view(1, 4, 1)
            ignore = torch.zeros(len(probs), SIZE, SIZE, dtype=torch.bool)
            ignore[:, 1] = True
            return MaskBatch(probs, {}, ignore)

    maker = DraftMaker(Toy(ToyConfig(size=SIZE, num_classes=0)), Doubtful(Config()), "f", torch.zeros(256, 3))
    _, masks = maker.pairs(sample_seeds(0, "annotate", 0, 2))
    assert (masks[:, :2] == 255).all()
    assert (masks[:, 2:] == 0).all()


# ---- the folder, as its editor sees it -----------------------------------------------------------------------------


def photographs(folder, masks=None, names="- ground\n- leaf\n- vein\n"):
    for index in range(2):
        write_png(folder / "images" / f"p{index}.png", torch.full((3, 6, 9), 40 * index, dtype=torch.uint8))
    for name, mask in (masks or {}).items():
        write_png(folder / "masks" / name, mask)
    if names:
        (folder / "classes.yaml").write_text(names)
    return folder


def test_photographs_of_ones_own(tmp_path):
    mask = torch.zeros(6, 9, dtype=torch.uint8)
    mask[2:4] = 2
    folder = AnnotationFolder(photographs(tmp_path, {"p1.png": mask}))
    before = content(tmp_path)
    assert [one.name for one in folder.pictures] == ["p0", "p1"]
    assert folder.classes == ("ground", "leaf", "vein")
    assert len(set(folder.colours)) == 3
    assert (folder.mask(0) == 255).all()
    assert not folder.changed(0)
    assert torch.equal(folder.mask(1), mask)
    painted = torch.ones(6, 9, dtype=torch.uint8)
    painted[0] = 255
    folder.save(0, painted)
    folder.save(1, painted)
    folder.set_done(1, True)
    after = content(tmp_path)
    assert after["drafts/p1.png"] == before["masks/p1.png"], "the person's own mask is kept, to the byte"
    again = AnnotationFolder(tmp_path)
    for index in range(2):
        assert torch.equal(again.mask(index), painted)
        assert again.changed(index)
        assert again.done(index) == bool(index)
    again.save(1, mask)
    assert not again.changed(1)
    again.set_done(1, False)
    assert not AnnotationFolder(tmp_path).done(1)


def test_masks_that_do_not_fit_are_not_written(tmp_path):
    folder = AnnotationFolder(photographs(tmp_path))
    for bad in (torch.zeros(9, 6, dtype=torch.uint8), torch.full((6, 9), 3, dtype=torch.uint8)):
        with pytest.raises(DataError, match="this mask"):
            folder.save(0, bad)
    assert not (tmp_path / "masks").exists()
    assert not (tmp_path / "annotate.json").exists()


def test_links_lead_nowhere(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    todo = photographs(tmp_path / "todo")
    (todo / "masks").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="outside the output folder"):
        AnnotationFolder(todo)


def test_what_cannot_be_edited(tmp_path):
    mask = torch.zeros(6, 9, dtype=torch.uint8)
    binary = mask.clone()
    binary[0] = 255
    cases = {
        "has no classes.yaml": {"names": ""},
        "gives the class name 'a' 2 times": {"names": "- a\n- a\n"},
        "is not the NAME.png of an image": {"masks": {"p1_mask.png": mask}},
        "is 6 x 9, its picture is 9 x 6": {"masks": {"p0.png": mask.T.contiguous()}},
        "holds the class 3, and there are 3": {"masks": {"p0.png": mask + 3}},
        "hold 0 and 255 alone": {"masks": {"p0.png": binary}},
    }
    for number, (sentence, given) in enumerate(cases.items()):
        with pytest.raises((ConfigError, DataError), match=sentence):
            AnnotationFolder(photographs(tmp_path / str(number), **given))
    for name, sentence in (("p0.webp", "same stem"), ("wide.png", "at most 2048 px")):
        todo = photographs(tmp_path / name)
        Image.new("RGB", (2049, 2) if name == "wide.png" else (3, 3)).save(todo / "images" / name)
        with pytest.raises(DataError) as caught:
            AnnotationFolder(todo)
        assert sentence in str(caught.value)
    with pytest.raises(ConfigError, match="does not exist"):
        AnnotationFolder(_only_names(tmp_path / "flat"))


def _only_names(folder):
    folder.mkdir()
    (folder / "classes.yaml").write_text("- a\n- b\n")
    return folder
