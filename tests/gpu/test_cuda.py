"""Every CUDA path, over everything that is installed: `pytest -m gpu -n 0`.

Parts are made with the small options of their kit settings. What a part computes on the GPU is compared with what the
same part, with the same tensors, computes on the CPU. GSEGKIT_TEST_DEVICE=cpu runs the same code without a GPU.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gsegkit import api
from gsegkit.engine.pipeline import run as run_plan
from gsegkit.engine.plan import Plan
from gsegkit.errors import InterruptedRunError
from gsegkit.plugins import Entry, installed
from gsegkit.testing import Subject, fixtures

DEVICE = os.environ.get("GSEGKIT_TEST_DEVICE", "cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(autouse=True)
def _exact_float32():
    """Compare with the CPU in full float32: TF32 keeps 10 bits."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def entries(kind: str) -> list[Entry]:
    found = [entry for entry in installed().of_kind(kind) if not entry.missing_modules()]
    return [pytest.param(entry, id=entry.component.name) for entry in found]


def close(there: Tensor, here: Tensor, atol: float, share: float = 1.0) -> bool:
    """At least `share` of the values lie within `atol`."""
    near = (there.detach().cpu().float() - here.detach().cpu().float()).abs() <= atol
    return bool(near.float().mean() >= share)


# ---- parts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", entries("generator"))
def test_a_generator_paints_the_same_pictures(entry: Entry) -> None:
    subject = Subject.of_entry(entry)
    here = subject.make().eval()
    there = subject.make().eval()
    there.load_state_dict(here.state_dict())
    there.to(DEVICE)
    names = tuple(spec.name for spec in here.info.features)
    a, b = here.sample(fixtures.seeds(5), features=names), there.sample(fixtures.seeds(5), features=names)
    assert b.images.device.type == DEVICE
    assert close(b.latents, a.latents, 1e-3)
    assert close(b.images, a.images, 2e-3)
    for name in names:
        assert b.features[name].device.type == DEVICE
        assert close(b.features[name], a.features[name], 2e-2, share=0.999)
    if "feature-edit" in entry.component.provides and here.info.edit_points:
        point = here.info.edit_points[-1]
        edited = [
            g.synthesize(x.latents, x.labels, edits={point: lambda t: t * 0.5}) for g, x in ((here, a), (there, b))
        ]
        assert close(edited[1].images, edited[0].images, 2e-3)
    if "latent-grad" in entry.component.provides:
        latents = b.latents.clone().requires_grad_()
        there.synthesize(latents, b.labels).images.square().mean().backward()
        assert latents.grad is not None
        assert torch.isfinite(latents.grad).all()


@pytest.mark.parametrize("entry", [p for p in entries("generator") if "trainable" in p.values[0].component.provides])
def test_a_generator_trains_stops_and_resumes(entry: Entry) -> None:
    subject = Subject.of_entry(entry)
    with fixtures.context() as ctx:
        ctx.device = torch.device(DEVICE)
        part = subject.make().to(DEVICE)
        images = fixtures.photographs(ctx.folder / "pictures", part.info.height, part.info.width)
        before = {name: tensor.clone() for name, tensor in part.state_dict().items()}
        own = ctx.stage("generator")
        own.stop.set()
        with pytest.raises(InterruptedRunError):
            part.fit(images, own)
        own.stop.clear()
        part = subject.make().to(DEVICE)
        part.fit(images, own)
        state = part.state_dict()
        assert all(torch.isfinite(tensor).all() for tensor in state.values() if tensor.is_floating_point())
        assert any(not torch.equal(state[name].cpu(), before[name].cpu()) for name in state if name in before)


@pytest.mark.parametrize("entry", entries("extractor"))
def test_an_extractor_reads_the_same_masks(entry: Entry) -> None:
    """Fitted on the GPU; then the same part on both devices."""
    subject = Subject.of_entry(entry)
    generator = fixtures.toy().to(DEVICE)
    if set(subject.requires) - {"latent-grad", "features", "feature-edit", "masks", "classes", "truth"}:
        pytest.skip("the toy lacks what it requires")
    with fixtures.context() as ctx:
        ctx.device = torch.device(DEVICE)
        images = None
        if "images" in subject.inputs:
            images = fixtures.photographs(ctx.folder / "pictures", generator.info.height, generator.info.width)
        part = subject.make().to(DEVICE)
        part.fit(generator, ctx.stage("extractor"), images=images)
    part.eval()
    names = tuple(part.features(generator.info))
    there = part.extract(generator.sample(fixtures.seeds(5), features=names), generator).probs
    assert there.device.type == DEVICE
    toy = fixtures.toy()
    part.to("cpu")
    here = part.extract(toy.sample(fixtures.seeds(5), features=names), toy).probs
    assert close(there, here, 2e-2, share=0.99)


SEGMENTERS = [p for p in entries("segmenter") if p.id in ("unet", "deeplabv3", "segformer", "unet-paper")]


@pytest.mark.parametrize("entry", SEGMENTERS)
def test_a_segmenter_trains_resumes_and_predicts(entry: Entry) -> None:
    subject = Subject.of_entry(entry)
    with fixtures.context() as ctx:
        ctx.device = torch.device(DEVICE)
        ctx.stop.set()
        with pytest.raises(InterruptedRunError):
            subject.make().to(DEVICE).fit(fixtures.pairs(), ctx)
        ctx.stop.clear()
        part = subject.make().to(DEVICE)
        part.fit(fixtures.pairs(), ctx)
    part.eval()
    pixels = torch.randint(0, 256, (2, 3, 50, 81), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    there = part.probs(pixels)
    assert there.device.type == DEVICE
    assert close(there, part.to("cpu").probs(pixels), 5e-3, share=0.999)


@pytest.mark.parametrize("entry", entries("kmeans"))
def test_kmeans_finds_blobs(entry: Entry) -> None:
    random = torch.Generator().manual_seed(0)
    means = torch.randn(5, 16, generator=random) * 10
    points = (means.repeat_interleave(200, 0) + torch.randn(1000, 16, generator=random)).to(DEVICE)
    centres, labels = entry.build().fit(points, 5, 0)
    assert centres.device.type == labels.device.type == DEVICE
    assert torch.cdist(means, centres.cpu()).amin(dim=1).max() < 1


# ---- the whole path ----------------------------------------------------------------------------------------------

RUNS = [
    ("toy", "native", "unet", ["gen.size=32"]),
    ("stylegan2", "klish", "unet", ["extractor.k0=20"]),
    ("stylegan2", "directions", "unet", []),
    ("stylegan2", "labels4free", "unet", []),
]


@pytest.mark.parametrize(("gen", "extractor", "seg", "options"), RUNS, ids=lambda value: str(value)[:12])
def test_a_run_evaluates_predicts_and_exports(
    gen: str, extractor: str, seg: str, options: list[str], tmp_path: Path
) -> None:
    base = {"gen": gen, "extractor": extractor, "seg": seg, "num_samples": 48, "device": DEVICE}
    smoke = gen != "toy"
    plan = Plan.from_options(base, [*options, "seg.steps=20"], smoke=smoke)
    result = run_plan(plan, tmp_path / "run")
    segmenter = api.load(result.folder, device=DEVICE)
    masks = segmenter.predict(torch.randint(0, 256, (2, 3, 40, 56), dtype=torch.uint8))
    assert masks.shape == (2, 40, 56)
    again = run_plan(plan, tmp_path / "run")  # every stage is reused
    assert again.folder == result.folder


def test_frechet_is_the_same(tmp_path: Path) -> None:
    entry = installed().find("generator-evaluator", "frechet")
    images = fixtures.photographs(tmp_path / "pictures", fixtures.HEIGHT, fixtures.WIDTH, 40)
    values = []
    for device in ("cpu", DEVICE):
        with fixtures.context(smoke=True) as ctx:
            ctx.device = torch.device(device)
            report = Subject.of_entry(entry).make().evaluate(fixtures.toy().to(device), images, ctx)
            values.append(next(iter(report.metrics.values())))
    assert values[1] == pytest.approx(values[0], rel=2e-2)
