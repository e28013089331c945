"""Checks of the small kinds: k-means backends, readers of data folders, weights, sample photographs."""

from __future__ import annotations

import torch
from torch import Tensor

from gsegkit.classes.named import check_fits
from gsegkit.classes.shipped import FOLDER as NAMES_FOLDER
from gsegkit.classes.shipped import read_names
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import DataError, UnknownPluginError
from gsegkit.images import list_images, read_image
from gsegkit.interfaces import ATTRIBUTION_FILE, DatasetReader, KMeans
from gsegkit.parts import COMPONENT_FILE, STATE_FILE, find_part, load_part
from gsegkit.plugins import installed
from gsegkit.storage import read_json
from gsegkit.tensors import state_hash
from gsegkit.testing import fixtures
from gsegkit.testing.subject import CheckSkippedError, Subject
from gsegkit.types import check_tensor

# ---- kmeans --------------------------------------------------------------------------------------------------------


def _points(count: int = 301, dims: int = 11) -> tuple[Tensor, Tensor]:
    """Three far blobs, and which blob each point belongs to."""
    random = torch.Generator().manual_seed(3)
    blobs = torch.arange(count) % 3
    centres = torch.eye(3, dims) * 50
    return centres[blobs] + torch.randn(count, dims, generator=random), blobs


def _cluster(subject: Subject, part: KMeans, points: Tensor, k: int, seed: int = 5) -> tuple[Tensor, Tensor]:
    centres, assignments = subject.call("fit", part.fit, points, k, seed)
    subject.call("fit", check_tensor, centres, "centres", torch.float32, (k, points.shape[1]))
    subject.call("fit", check_tensor, assignments, "assignments", torch.int64, (points.shape[0],))
    return centres, assignments


def check_blobs(subject: Subject) -> None:
    """Three far blobs are found; every point belongs to its nearest centre; the device is named."""
    part, (points, blobs) = subject.make(), _points()
    centres, assignments = _cluster(subject, part, points, 3)
    nearest = torch.cdist(points, centres).argmin(dim=1)
    share = float((nearest == assignments).float().mean())
    subject.expect(share == 1, "fit", f"only {share:.1%} of the points belong to their nearest centre")
    pure = all(len(set(assignments[blobs == blob].tolist())) == 1 for blob in range(3))
    subject.expect(pure and len(set(assignments.tolist())) == 3, "fit", "did not find three blobs that lie far apart")
    name = part.used_device
    subject.expect(isinstance(name, str) and name.startswith(("cpu", "cuda")), "used_device", f"is {name!r}")


def check_cluster_seed(subject: Subject) -> None:
    """The same points and seed give the same clusters; the points are not written into."""
    part, (points, _) = subject.make(), _points()
    before = points.clone()
    one = _cluster(subject, part, points, 7)
    two = _cluster(subject, subject.make(), points, 7)
    subject.expect(torch.equal(one[0], two[0]) and torch.equal(one[1], two[1]), "fit", "the same seed differs")
    subject.expect(torch.equal(points, before), "fit", "wrote into the points")


def check_bad_points(subject: Subject) -> None:
    """Fewer points than clusters and points that are not finite raise DataError."""
    part, (points, _) = subject.make(), _points(5)
    subject.refuses("fit", (DataError,), "7 clusters of 5 points", lambda: part.fit(points, 7, 0))
    points[2, 1] = float("nan")
    subject.refuses("fit", (DataError,), "a point that is NaN", lambda: part.fit(points, 2, 0))


def check_cluster_globals(subject: Subject) -> None:
    """Clustering leaves the global random states and torch's settings alone."""
    points, _ = _points()
    with subject.untouched_globals("fit"):
        _cluster(subject, subject.make(), points, 3)


KMEANS_CHECKS = (check_blobs, check_cluster_seed, check_bad_points, check_cluster_globals)

# ---- dataset -------------------------------------------------------------------------------------------------------


def check_bad_folders(subject: Subject) -> None:
    """A missing folder, an empty one, and a file in its place raise DataError."""
    part: DatasetReader = subject.make()
    with fixtures.context() as ctx:
        (ctx.folder / "empty").mkdir()
        (ctx.folder / "file").write_text("no folder")
        for method, read in (("images", part.images), ("labelled", part.labelled)):
            for name in ("missing", "empty", "file"):
                folder = ctx.folder / name
                subject.refuses(method, (DataError,), f"a folder that is '{name}'", lambda: len(read(folder)))  # noqa: B023


def check_image_folder(subject: Subject) -> None:
    """A folder of pictures is read in a stable order, or refused with DataError when its layout is another."""
    part: DatasetReader = subject.make()
    with fixtures.context() as ctx:
        expected = fixtures.photographs(ctx.folder, fixtures.HEIGHT, fixtures.WIDTH)
        try:
            images = part.images(ctx.folder)
        except DataError as error:
            raise CheckSkippedError(f"reads another layout: {error}") from error
        subject.expect(isinstance(images, UnlabelledImages), "images", f"returned {type(images).__name__}")
        subject.expect(tuple(images.paths) == expected.paths, "images", "not the folder's pictures in sorted order")
        pixels = subject.call("images", lambda: images[0])
        subject.expect(torch.equal(pixels, read_image(expected.paths[0])), "images", "changed the pixels")


DATASET_CHECKS = (check_bad_folders, check_image_folder)

# ---- weights -------------------------------------------------------------------------------------------------------

CARD_FILE = "card.json"


def check_weights_files(subject: Subject) -> None:
    """The folder holds the state, the component record and a card with the licence."""
    folder = subject.call("folder", subject.make().folder)
    for name in (STATE_FILE, COMPONENT_FILE, CARD_FILE):
        subject.expect((folder / name).is_file(), "folder", f"{folder} has no {name}")
    card = subject.call("folder", read_json, folder / CARD_FILE)
    subject.expect(isinstance(card, dict) and card.get("licence"), "folder", f"{CARD_FILE} names no licence")


def check_weights_load(subject: Subject) -> None:
    """The weights load into the generator that they name, and it makes finite images that differ."""
    folder = subject.call("folder", subject.make().folder)
    record = subject.call("folder", read_json, folder / COMPONENT_FILE)
    try:
        generator = installed().build("generator", record["name"], record["config"], stored=True)
    except UnknownPluginError as error:  # anything else is a fault of the weights' record
        raise CheckSkippedError(f"the generator is not installed: {error}") from error
    subject.call("folder", load_part, generator, folder)
    images = generator.eval().sample(fixtures.seeds(2)).images
    subject.expect(torch.isfinite(images).all(), "folder", "the images hold NaN or infinity")
    subject.expect(not torch.equal(images[0], images[1]), "folder", "two seeds gave the same image")


def check_weights_names(subject: Subject) -> None:
    """Names that ship with the weights fit the extractor beside them, and belong to this generator."""
    weights = subject.make()
    if not weights.names:
        raise CheckSkippedError("no names ship with them")
    folder = subject.call("folder", weights.folder)
    record = subject.call("folder", read_json, folder / COMPONENT_FILE)
    try:
        shipped = subject.call("names", read_names, weights.names, subject.name, folder / NAMES_FOLDER)
        stored = find_part(shipped.folder, "extractor")
        extractor = installed().build("extractor", stored.name, stored.config, stored=True)
        generator = installed().build("generator", record["name"], record["config"], stored=True)
    except UnknownPluginError as error:
        raise CheckSkippedError(f"not installed: {error}") from error
    subject.call("names", load_part, extractor, shipped.folder)
    subject.call("names", check_fits, shipped.classes, extractor)
    subject.call("folder", load_part, generator, folder)
    belongs = shipped.generator == state_hash(generator)
    subject.expect(belongs, "names", f"card.json names the generator {shipped.generator}, another than these weights")


WEIGHTS_CHECKS = (check_weights_files, check_weights_load, check_weights_names)

# ---- samples -------------------------------------------------------------------------------------------------------


def check_sample_photographs(subject: Subject) -> None:
    """The folder holds photographs that can be read, and says whose they are and under which licence."""
    folder = subject.call("folder", subject.make().folder)
    text = folder / ATTRIBUTION_FILE
    subject.expect(text.is_file() and text.stat().st_size > 0, "folder", f"{folder} has no {ATTRIBUTION_FILE}")
    for path in subject.call("folder", list_images, folder):
        subject.call("folder", read_image, path)


SAMPLES_CHECKS = (check_sample_photographs,)
