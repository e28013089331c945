"""Every CUDA path, over everything that is installed: `pytest -m gpu -n 0`.

Parts are made with the small options of their kit settings. What a part computes on the GPU is compared with what the
same part, with the same tensors, computes on the CPU. GSEGKIT_TEST_DEVICE=cpu runs the same code without a GPU;
GSEGKIT_TEST_DEVICE=pretended too, and fails where tensors of two devices meet (`gsegkit.testing.elsewhere`).

| what is another on a GPU | where | the test that runs it there |
| --- | --- | --- |
| photographs in the GPU's memory, pinned uploads | training/photographs.py | a generator trains |
| steps as CUDA graphs, fused and capturable Adam | training/recorded.py, stylegan2's trainer | plugins/gsegkit-stylegan, test_training.py |
| sums of k-means by a product; its draws on the CPU | clustering/kmeans.py | k-means finds blobs; tests/test_kmeans.py |
| points on the GPU, in half, from a file | clustering/points.py, klish | klish reads points in every way |
| faiss's own GPU index | gsegkit-faiss | k-means finds blobs; plugins/gsegkit-faiss |
| float16 with scaled loss, bfloat16, channels last | gsegkit-smp, training.py | a segmenter trains in half precision |
| autocast of labels4free, layered, directions' U-Net | their training.py, unet.py | an extractor reads; a generator trains |
| synthesis in half precision | gsegkit-stylegan | stylegan2 paints nearly the same |
| layout of painters' convolutions | gsegkit-spade, base.py | a painter trains and paints |
| one picture after the other in `colours` | gsegkit-refine | photographs are predicted |
| memory that a run takes | engine/estimate.py | the run is planned |
| blocks of images of the Frechet distance | gsegkit-eval, frechet.py | Frechet is the same |
| tensors of GPUs between processes | distributed/processes.py | a team sends; two processes on one card |
| random state of GPUs kept apart | seeds.py | whatever trains and resumes |
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gsegkit import api
from gsegkit.engine.estimate import estimate
from gsegkit.engine.pipeline import run as run_plan
from gsegkit.engine.plan import Plan
from gsegkit.errors import InterruptedRunError
from gsegkit.plugins import Entry, installed
from gsegkit.tensors import read_safetensors
from gsegkit.testing import Subject, fixtures
from gsegkit.testing.elsewhere import pretended

WANTED = os.environ.get("GSEGKIT_TEST_DEVICE", "cuda")
DEVICE = "cpu" if WANTED == "cpu" else "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(WANTED == "cuda" and not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(autouse=True)
def _pretended():
    with pretended() if WANTED == "pretended" else contextlib.nullcontext():
        yield


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


# ---- options and commands that compute in another way on a GPU -------------------------------------------------------

TRUE_GPU = pytest.mark.skipif(WANTED != "cuda", reason="a pretended GPU cannot do this")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_segmenter_trains_in_half_precision(dtype: str) -> None:
    if WANTED != "cuda" and dtype == "float16":
        pytest.skip("float16 scales its loss by what a true GPU says")
    part = installed().build("segmenter", "unet", {"dtype": dtype, "batch_size": 4, "compile": False}).to(DEVICE)
    with fixtures.context() as ctx:
        ctx.device = torch.device(DEVICE)
        part.fit(fixtures.pairs(), ctx)
    assert all(torch.isfinite(value).all() for value in part.state_dict().values() if value.is_floating_point())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_stylegan2_paints_nearly_the_same_in_half_precision(dtype: str) -> None:
    options = {"weights": "none", "resolution": 32, "channel_base": 256, "channel_max": 16}
    here = installed().build("generator", "stylegan2", options).eval()
    there = installed().build("generator", "stylegan2", {**options, "dtype": dtype}).eval()
    there.load_state_dict(here.state_dict())
    there.to(DEVICE)
    a, b = here.sample(fixtures.seeds(3)).images, there.sample(fixtures.seeds(3)).images
    assert b.dtype == torch.float32
    assert close(b, a, 0.05 * float(a.abs().max()), share=0.99)


@pytest.mark.parametrize(
    "options", [{"dtype": "float16"}, {"storage": "disk"}, {"mirrored": "x"}, {"refit": "softmax"}], ids=str
)
def test_klish_reads_points_in_every_way(options: dict[str, str]) -> None:
    config = {"k0": 10, "kmeans": "torch", "num_images": 12, "pixels_per_image": 60, **options}
    part = installed().build("extractor", "klish", config).to(DEVICE)
    with fixtures.context(smoke=False) as ctx:
        ctx.device = torch.device(DEVICE)
        part.fit(fixtures.toy().to(DEVICE), ctx)
    assert len(part.levels) > 3
    assert part.weight.device.type in (DEVICE, "cpu")


@pytest.mark.parametrize("entry", entries("painter"))
def test_a_painter_trains_and_paints(entry: Entry) -> None:
    subject = Subject.of_entry(entry)
    with fixtures.context() as ctx:
        ctx.device = torch.device(DEVICE)
        part = subject.make().to(DEVICE)
        part.fit(fixtures.pairs(), ctx)
        part.eval()
        masks = fixtures.pairs().masks[:3]
        z = torch.randn(3, part.latent_dim, generator=torch.Generator().manual_seed(0))
        there = part.paint(masks.to(DEVICE), z.to(DEVICE))
    assert there.device.type == DEVICE
    assert close(there, part.to("cpu").paint(masks, z), 2e-2, share=0.99)


def test_photographs_are_predicted_and_the_run_is_planned(tmp_path: Path) -> None:
    base = {"gen": "toy", "extractor": "native", "seg": "unet", "num_samples": 16, "device": DEVICE}
    plan = Plan.from_options(base, ["gen.size=32"], smoke=True)
    result = run_plan(plan, tmp_path / "run")
    fixtures.photographs(tmp_path / "pictures", 40, 56, 3)
    api.predict(result.folder, tmp_path / "pictures", tmp_path / "masks", device=DEVICE)
    assert len(list((tmp_path / "masks").rglob("*.png"))) >= 3
    found = estimate(plan, installed(), tmp_path / "other")
    assert found.total_seconds > 0
    assert (found.vram_bytes > 0) == (WANTED == "cuda")


# ---- several processes -------------------------------------------------------------------------------------------------


@TRUE_GPU
def test_a_team_sends_tensors_over_nccl() -> None:
    """One process, because one card is here: NCCL takes part all the same. Two cards are for torchrun."""
    code = """
import os, socket, torch
import torch.distributed as dist
from gsegkit.distributed.launched import Launched
from gsegkit.distributed.processes import Processes
with socket.socket() as free:
    free.bind(("127.0.0.1", 0)); port = free.getsockname()[1]
os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
torch.cuda.set_device(0)
dist.init_process_group("cpu:gloo,cuda:nccl", rank=0, world_size=1)
team = Processes(Launched(0, 1, 0, "127.0.0.1", port), None)
x = torch.arange(6, device="cuda").float()
assert torch.equal(team.sum(x), x) and team.told({"a": [1]}) == {"a": [1]} and team.gather("b") == ["b"]
found = list(team.map(lambda i: (x * i, torch.tensor([i]), x[:0]), range(3)))
assert all(torch.equal(a, x * i) and a.is_cuda and b.device.type == "cpu" for i, (a, b, _) in enumerate(found))
assert torch.equal(team.once(lambda: (x.half(),))[0], x.half())
team.wait(); dist.destroy_process_group(); print("fine")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "fine", done.stderr[-2000:]


@TRUE_GPU
def test_two_processes_on_one_card_leave_the_folder_of_one(tmp_path: Path) -> None:
    words = [
        "run",
        "--gen",
        "toy",
        "--extractor",
        "klish",
        "--seg",
        "unet",
        "--device",
        "cuda",
        "--samples",
        "300",
        "--smoke",
    ]
    words += ["-o", "gen.size=32", "-o", "extractor.kmeans=torch", "--quiet"]
    starts = {"one": [], "two": ["-m", "torch.distributed.run", "--nproc-per-node", "2"]}
    for name, start in starts.items():
        command = [sys.executable, *start, "-m", "gsegkit", *words, "--out", str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (read_safetensors(tmp_path / name / "extractor/state.safetensors")[0] for name in starts)
    assert one.keys() == two.keys()
    assert all(close(one[key], two[key], 1e-3) for key in one)
