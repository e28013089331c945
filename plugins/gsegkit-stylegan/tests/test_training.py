"""The trainer: exact resume, lazy regularisation, growth, order of the data, alarms, and that it learns."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
import torch.nn.functional as F
from gsegkit_stylegan.config import StyleGAN2Arch, StyleGAN2Config
from gsegkit_stylegan.config_train import TrainOptions
from gsegkit_stylegan.networks.discriminator import Discriminator, minibatch_std
from gsegkit_stylegan.networks.stylegan2 import StyleGAN2Network
from gsegkit_stylegan.stylegan2 import StyleGAN2
from gsegkit_stylegan.training.photographs import RealImages
from gsegkit_stylegan.training.stylegan2 import StyleGAN2Trainer, _adam

from gsegkit.context import RunContext, read_metrics
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import DataError, DivergedError, InterruptedRunError
from gsegkit.images import write_png
from gsegkit.tensors import load_tree, save_tree
from gsegkit.training import WARM_UP, GanWatch, ImageBank

SMALL = {"resolution": 16, "channel_base": 128, "channel_max": 8, "z_dim": 10, "w_dim": 9, "mapping_layers": 2}
TRAIN = {
    "kimg": 0.04, "batch_size": 4, "r1_interval": 3, "path_weight": 1.0, "path_interval": 2, "ada_start": 0.3,
    "style_mixing": 0.5, "mirror": "xy", "snapshot_kimg": 0.02,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    noise = torch.Generator().manual_seed(0)
    for i in range(11):
        write_png(folder / f"{i:02d}.png", (torch.rand(3, 20, 30, generator=noise) * 255).to(torch.uint8))
    return folder


@pytest.fixture
def images(folder):
    return UnlabelledImages(tuple(sorted(folder.glob("*.png"))))


def real_images(images, side, rule, mirror, folder, device="cpu", **options):
    ctx = RunContext(folder=folder)
    return RealImages(ImageBank(images, (side, side), rule, ctx, device=torch.device(device), **options), 4, mirror, 0)


def fit(images, ctx, **options):
    generator = StyleGAN2(StyleGAN2Config(**{**SMALL, **TRAIN, **options}))
    generator.fit(images, ctx)
    return generator


def trainer(images, tmp_path, arch=None, **options):
    arch = StyleGAN2Arch(**{**SMALL, **(arch or {})})
    chosen = TrainOptions(**{**TRAIN, **options})
    reals = real_images(images, arch.resolution, "squash", chosen.mirror, tmp_path, "cpu")
    return StyleGAN2Trainer(StyleGAN2Network(arch), chosen, reals, RunContext(folder=tmp_path))


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


# ---- resume --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_after", [1, 4, 7])
@pytest.mark.parametrize("options", [{}, {"grow_from": 8, "grow_kimg": 0.016}], ids=["plain", "growing"])
def test_a_stopped_training_ends_bit_identical(images, tmp_path, stop_after, options):
    whole = fit(images, RunContext(folder=tmp_path / "whole", seed=5), **options)
    ctx = RunContext(folder=tmp_path / "parts", seed=5, checkpoint_seconds=1e9)
    seen = []

    class Stopper(type(ctx.progress)):
        def start(self, task, total, done=0, planned=None):
            self.training = "training" in task

        def advance(self, done, values):
            if not self.training:
                return
            seen.append(done)
            if done == stop_after:
                ctx.stop.set()

    ctx.progress = Stopper()
    with pytest.raises(InterruptedRunError):
        fit(images, ctx, **options)
    ctx.stop.clear()
    resumed = fit(images, ctx, **options)
    assert seen == list(range(1, 11))
    assert same(whole, resumed)
    rows = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts")]
    for row in (*rows[0], *rows[1]):
        row.pop("images_per_second")
    assert rows[0] == rows[1]


@pytest.mark.gpu
@pytest.mark.parametrize("options", [{}, {"grow_from": 8, "grow_kimg": 0.016}], ids=["plain", "growing"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_on_a_gpu_a_training_stops_and_resumes(images, tmp_path, dtype, options):
    """Also one that a CPU began. Sums on a GPU have no fixed order, so weights are only close."""
    options = {**options, "train_dtype": dtype}
    before = torch.backends.cudnn.benchmark

    def train(name, device, kimg):
        generator = StyleGAN2(StyleGAN2Config(**{**SMALL, **TRAIN, **options, "kimg": kimg})).to(device)
        ctx = RunContext(folder=tmp_path / name, seed=5, device=torch.device(device))
        generator.fit(images, ctx)
        return generator

    whole = train("whole", "cuda", 0.04)
    for first in ("cuda", "cpu"):
        train(first, first, 0.02)
        resumed = train(first, "cuda", 0.04)
        assert len(read_metrics(tmp_path / first / "metrics.jsonl")) == 2
        a, b = (g.sample(torch.arange(4)).images for g in (whole, resumed))
        assert a.device.type == "cuda"
        assert (a - b).abs().mean() < 0.1
    assert torch.backends.cudnn.benchmark == before


@pytest.mark.gpu
def test_a_step_on_a_gpu_is_the_step_on_a_cpu(images, tmp_path):
    """Without noise, which a GPU draws itself, the gradients of both networks agree."""
    found = []
    for device in ("cpu", "cuda"):
        arch = StyleGAN2Arch(**SMALL)
        options = TrainOptions(**{**TRAIN, "train_dtype": "float32"})
        reals = real_images(images, arch.resolution, "squash", "xy", tmp_path, device)
        run = StyleGAN2Trainer(StyleGAN2Network(arch).to(device), options, reals, RunContext(folder=tmp_path))
        run._noise = lambda step, n=None: lambda name, r: None
        values = {name: float(value) for name, value in run.step(0).items()}
        found.append((values, [p.detach().cpu() for p in (*run.G_ema.parameters(), *run.D.parameters())]))
    for name, value in found[0][0].items():
        assert found[1][0][name] == pytest.approx(value, rel=0.02, abs=1e-3), name
    far = sum(float(((a - b).abs() > 1e-3).sum()) for a, b in zip(found[0][1], found[1][1], strict=True))
    assert far < 0.02 * sum(p.numel() for p in found[0][1]), "Adam's first step has the gradient's sign"


@pytest.mark.gpu
@pytest.mark.parametrize("p", [0.0, 0.4])
def test_recorded_steps_are_the_steps(images, tmp_path, p):
    """Also when the resolution changes on the way, and beside penalties, which are not recorded."""
    found = []
    for record in (False, True):
        arch = StyleGAN2Arch(**SMALL)
        options = TrainOptions(**{
            **TRAIN, "train_dtype": "float32", "ada_start": p, "ada_target": 0.6 if p else 0.0, "record_steps": record,
            "path_interval": 5, "grow_from": 8, "grow_kimg": 0.04, "lr_generator": 1e-4, "lr_discriminator": 1e-4,
        })  # fmt: skip
        reals = real_images(images, arch.resolution, "squash", "xy", tmp_path, "cuda")
        run = StyleGAN2Trainer(StyleGAN2Network(arch).to("cuda"), options, reals, RunContext(folder=tmp_path))
        values = [{name: float(value) for name, value in run.step(step).items()} for step in range(24)]
        found.append((values, [q.detach().cpu() for q in (*run.G_ema.parameters(), *run.D.parameters())]))
        if record:
            assert not run.recorded.failed
            assert len(run.recorded.recordings) >= 2
    for eager, recorded in zip(*(values for values, _ in found), strict=True):
        assert eager.keys() == recorded.keys()
        assert recorded["loss_D"] == pytest.approx(eager["loss_D"], abs=0.02)
    far = sum(float(((a - b).abs() > 2e-3).sum()) for a, b in zip(found[0][1], found[1][1], strict=True))
    assert far < 0.02 * sum(q.numel() for q in found[0][1])


def test_another_seed_ends_elsewhere(images, tmp_path):
    a, b = (fit(images, RunContext(folder=tmp_path / str(seed), seed=seed)) for seed in (1, 2))
    assert not same(a, b)


def test_training_leaves_the_random_state_alone(images, tmp_path):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    fit(images, RunContext(folder=tmp_path), kimg=0.008)
    assert torch.equal(torch.random.get_rng_state(), before)


SCRIPT = """
import sys, torch
sys.path.insert(0, {here!r})
from pathlib import Path
from test_training import fit
from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
torch.set_num_threads(1)
images = UnlabelledImages(tuple(sorted(Path({folder!r}).glob("*.png"))))
generator = fit(images, RunContext(folder=Path(sys.argv[1]), seed=5, checkpoint_seconds=0), kimg=0.6)
torch.save(generator.state_dict(), sys.argv[1] + "/end.pt")
"""


@pytest.mark.slow
def test_killed_at_ten_random_moments(folder, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.format(here=os.path.dirname(__file__), folder=str(folder)))

    def start(out):
        out.mkdir(exist_ok=True)
        return subprocess.Popen([sys.executable, str(script), str(out)], env={**os.environ, "OMP_NUM_THREADS": "1"})

    assert start(tmp_path / "whole").wait(280) == 0
    moments, kills = random.Random(7), 0
    while kills < 10:
        process = start(tmp_path / "killed")
        checkpoint = tmp_path / "killed" / "checkpoint.safetensors"
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        while process.poll() is None and (not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before):
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.6))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert kills == 10
    assert start(tmp_path / "killed").wait(280) == 0
    ends = [torch.load(tmp_path / name / "end.pt", weights_only=True) for name in ("whole", "killed")]
    for key, value in ends[0].items():
        assert torch.equal(value, ends[1][key]), key


# ---- the algorithm -------------------------------------------------------------------------------------------------


def test_lazy_adam_shrinks_rate_and_betas():
    net = torch.nn.Linear(2, 2)
    plain, lazy = _adam(net, 0.01, None).param_groups[0], _adam(net, 0.01, 16).param_groups[0]
    assert (plain["lr"], plain["betas"]) == (0.01, (0.0, 0.99))
    assert lazy["lr"] == pytest.approx(0.01 * 16 / 17)
    assert lazy["betas"] == (0.0, pytest.approx(0.99 ** (16 / 17)))


def test_adam_takes_moments_of_another_device_back(tmp_path):
    """Files hold no strides; `fused` belongs to the device, not to the state."""
    nets = [torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last) for _ in range(2)]
    optimisers = [_adam(net, 0.01, 16) for net in nets]
    nets[0](torch.randn(2, 3, 8, 8)).sum().backward()
    optimisers[0].step()
    save_tree(tmp_path / "adam", optimisers[0].state_dict())
    stored = load_tree(tmp_path / "adam")
    stored["param_groups"][0]["fused"] = True
    optimisers[1].load_state_dict(stored)
    assert optimisers[1].param_groups[0]["fused"] is None
    for ours, theirs, weight in zip(*(o.state.values() for o in optimisers), nets[1].parameters(), strict=True):
        assert theirs["exp_avg_sq"].stride() == weight.stride()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_penalties_come_at_their_interval(images, tmp_path):
    run = trainer(images, tmp_path)
    keys = [set(run.step(step)) for step in range(6)]
    assert ["r1" in found for found in keys] == [True, False, False, True, False, False]
    assert ["path_length" in found for found in keys] == [True, False, True, False, True, False]
    off = trainer(images, tmp_path, r1_gamma=0, path_weight=0)
    assert not {"r1", "path_length"} & set(off.step(0))


def test_r1_is_half_gamma_times_the_interval_times_the_squared_gradient(images, tmp_path):
    """The gradient that the step puts into D, against one of the penalty written with torch.func."""
    run = trainer(images, tmp_path, r1_gamma=0.7)
    reals = run.reals.batch(0, 16)
    parameters = {name: p.detach() for name, p in run.D.named_parameters()}

    def penalty(parameters):
        def total(x):
            return torch.func.functional_call(run.D, parameters, (x,)).sum()

        return torch.func.grad(total)(reals).square().sum(dim=(1, 2, 3)).mean() * (0.7 / 2 * 3)

    expected = torch.func.grad(penalty)(parameters)
    taken = {}
    run.adam_D.step = lambda: taken.update(
        {n: p.grad.clone() for n, p in run.D.named_parameters() if p.grad is not None}
    )
    run._r1_step(reals, None)
    assert taken
    for name, gradient in taken.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-4, rtol=1e-3)


def test_losses_are_the_non_saturating_ones(images, tmp_path):
    run = trainer(images, tmp_path, ada_start=0.0, ada_target=0.0, r1_gamma=0, path_weight=0)
    ws = run._styles(run._latents(3, "z", run.options.batch_size), "z", None)
    fakes = run.G.synthesis(ws, noise=run._noise(3))
    reals = run.reals.batch(3, 16)
    loss_g = -torch.log(torch.sigmoid(run.D(fakes))).mean()
    values = run.step(3)
    assert float(values["loss_G"]) == pytest.approx(float(loss_g), rel=1e-4)
    again = trainer(images, tmp_path, ada_start=0.0, ada_target=0.0, r1_gamma=0, path_weight=0)
    real, fake = torch.sigmoid(again.D(reals)), torch.sigmoid(again.D(fakes.detach()))
    loss_d = -(torch.log(real).mean() + torch.log(1 - fake).mean())
    assert float(values["loss_D"]) == pytest.approx(float(loss_d), rel=1e-4)


def test_the_average_has_the_half_life(images, tmp_path):
    run = trainer(images, tmp_path, ema_kimg=0.004, ema_rampup=1.0)
    for net, value in ((run.G, 1.0), (run.G_ema, 0.0)):
        for p in net.parameters():
            p.data.fill_(value)
    run._average(0)  # 4 images shown, half-life 4 images: half way
    assert torch.allclose(run.G_ema.synthesis.b4.const, torch.tensor(0.5))


def test_growth_doubles_and_starts_silently(images, tmp_path):
    run = trainer(images, tmp_path, arch={"resolution": 32}, grow_from=8, grow_kimg=0.012)
    assert [run.resolution_at(step) for step in (0, 2, 3, 5, 6, 99)] == [8, 8, 16, 16, 32, 32]
    ws = run._styles(run._latents(0, "z", run.options.batch_size), "z", None)
    small = run.G.synthesis(ws, resolution=8)
    large = run.G.synthesis(ws, resolution=16)
    assert small.shape[-1] == 8
    torch.testing.assert_close(F.avg_pool2d(large, 2)[:, :, 1:-1, 1:-1], small[:, :, 1:-1, 1:-1], atol=0.6, rtol=0)
    reals = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        judged = run.D(reals)
        gate = run.D.b8.gate
        gate.add_(1.0)  # open: now the block above is heard
        assert not torch.allclose(judged, run.D(reals))
        gate.sub_(1.0)
        run.D.b16.conv0.weight.add_(1.0)
        torch.testing.assert_close(judged, run.D(reals))


def test_discriminator_rejects_nothing_below_its_size_and_is_twice_differentiable():
    net = Discriminator(StyleGAN2Arch(**SMALL))
    x = torch.randn(4, 3, 16, 16, dtype=torch.float32, requires_grad=True)
    (g,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    g.square().sum().backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert all(name.endswith("bias") for name in silent), silent


def test_minibatch_std_sees_equal_images():
    x = torch.randn(1, 3, 4, 4).expand(4, 3, 4, 4)
    assert minibatch_std(x).max() < 1e-3
    y = torch.randn(8, 3, 4, 4)
    expected = torch.stack([y[i::2].std(dim=0, correction=0).mean() for i in range(2)])
    torch.testing.assert_close(minibatch_std(y)[:2, 0, 0, 0], expected, atol=1e-5, rtol=0)


# ---- data ----------------------------------------------------------------------------------------------------------


def test_every_image_once_an_epoch_in_another_order(images, tmp_path):
    reals = real_images(images, 16, "squash", "none", tmp_path, "cpu")
    rows = torch.tensor([reals.order.rows(step) for step in range(22)])  # 88 = 8 epochs of 11
    epochs = rows.reshape(8, 11)
    assert all(sorted(epoch.tolist()) == list(range(11)) for epoch in epochs)
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 8
    fresh = real_images(images, 16, "squash", "none", tmp_path, "cpu")
    assert fresh.order.rows(13) == rows[13].tolist()


@pytest.mark.parametrize("rule", ["squash", "crop", "pad"])
def test_fit_rules(images, rule, tmp_path):
    reals = real_images(images, 16, rule, "none", tmp_path, "cpu")
    assert torch.equal(reals.bank.batch(range(11)), images.fitted((16, 16), rule).batch(range(11)))
    assert reals.batch(0, 8).shape == (4, 3, 8, 8)


def test_mirror_flips_half(images, tmp_path):
    plain = real_images(images, 16, "squash", "none", tmp_path, "cpu")
    flipped = real_images(images, 16, "squash", "xy", tmp_path, "cpu")
    kinds = {"as it is": 0, "x": 0, "y": 0, "both": 0}
    for step in range(40):
        for a, b in zip(plain.batch(step, 16), flipped.batch(step, 16), strict=True):
            versions = {"as it is": a, "x": a.flip(2), "y": a.flip(1), "both": a.flip(1, 2)}
            (kind,) = [name for name, version in versions.items() if torch.equal(version, b)]
            kinds[kind] += 1
    assert all(20 < count < 65 for count in kinds.values()), kinds


def test_classes_are_folders(tmp_path):
    for i in range(6):
        write_png(tmp_path / "ab"[i % 2] / f"{i}.png", torch.full((3, 8, 8), 40 * (i % 2), dtype=torch.uint8))
    images = UnlabelledImages(tuple(sorted(tmp_path.rglob("*.png"))))
    reals = real_images(images, 8, "squash", "none", tmp_path, "cpu", num_classes=2)
    brightness = (reals.batch(2, 8).mean(dim=(1, 2, 3)) > -0.9).long()
    assert torch.equal(reals.labels(2), brightness)
    with pytest.raises(DataError, match="3 classes needs one image folder per class, found 2"):
        real_images(images, 8, "squash", "none", tmp_path, "cpu", num_classes=3)
    generator = fit(images, RunContext(folder=tmp_path / "run"), resolution=8, num_classes=2, kimg=0.008)
    assert generator.info.num_classes == 2


def test_too_few_images(images, tmp_path):
    with pytest.raises(DataError, match="at least 2"):
        fit(UnlabelledImages(images.paths[:1]), RunContext(folder=tmp_path))


# ---- what people see -----------------------------------------------------------------------------------------------


def test_grids_metrics_and_facts(images, tmp_path):
    generator = fit(images, RunContext(folder=tmp_path), fit="pad")
    assert len(list((tmp_path / "samples").glob("kimg-*.png"))) == 2
    row = read_metrics(tmp_path / "metrics.jsonl")[-1]
    assert {"loss_G", "loss_D", "ada_p", "ada_rt", "images_per_second", "resolution"} <= set(row)
    assert generator.info.fit_rule == "pad"
    assert generator.info.mirrored == "xy"
    assert generator.network.mapping.w_avg.abs().sum() > 0


@pytest.mark.slow
def test_divergence_stops_the_training_and_keeps_the_checkpoint(images, tmp_path):
    ctx = RunContext(folder=tmp_path, checkpoint_seconds=0)
    with pytest.raises(DivergedError):
        fit(images, ctx, lr_generator=1.0, lr_discriminator=1.0, kimg=4.0, r1_gamma=1e4, r1_interval=1)
    assert (tmp_path / "checkpoint.safetensors").exists()


def test_collapse_and_a_sure_discriminator_are_told_once_in_a_while():
    watch = GanWatch()
    reals = torch.randn(8, 3, 8, 8)
    fakes = reals[:1].expand(8, 3, 8, 8)
    told = []
    for step in range(0, WARM_UP + 1600, 20):
        watch.see(step, reals, fakes, {"real_logit": 9.0})
        told += watch.warnings()
    assert sum("collapse" in text for text in told) == 2
    assert sum("certain" in text for text in told) == 2
    calm = GanWatch()
    for step in range(0, WARM_UP + 400, 20):
        calm.see(step, reals, torch.randn(8, 3, 8, 8), {"real_logit": 0.4})
    assert calm.warnings() == []


def test_growth_option_is_checked():
    with pytest.raises(ValueError, match="power of two"):
        TrainOptions(grow_from=12)


def test_it_learns_the_mean_colour(tmp_path):
    """Red photographs: after some steps the samples are red."""
    for i in range(8):
        write_png(tmp_path / f"{i}.png", torch.tensor([220, 30, 30], dtype=torch.uint8)[:, None, None].repeat(1, 8, 8))
    images = UnlabelledImages(tuple(sorted(tmp_path.glob("*.png"))))
    options = {"path_weight": 0, "style_mixing": 0, "ada_target": 0, "resolution": 8, "ema_kimg": 0.2, "r1_gamma": 0.05}
    generator = fit(images, RunContext(folder=tmp_path / "run"), **options, kimg=1.6, batch_size=8, lr_generator=0.01)
    colour = generator.sample(torch.arange(16)).images.mean(dim=(0, 2, 3))
    assert colour[0] > 0.2
    assert colour[1:].max() < -0.2


def test_a_training_whose_time_is_over_leaves_its_average_and_a_grid(images, tmp_path):
    first = fit(images, RunContext(tmp_path / "work", time_limit=1e-6))
    kept = load_tree(tmp_path / "work" / "checkpoint.safetensors")
    assert kept["done"] == 1
    fresh = StyleGAN2(StyleGAN2Config(**{**SMALL, **TRAIN}))
    assert not same(first, fresh)
    assert [path.name for path in (tmp_path / "work" / "samples").iterdir()] == ["kimg-00000.004.png"]
    again = fit(images, RunContext(tmp_path / "work", time_limit=1e-6))
    assert same(again, first)
    assert load_tree(tmp_path / "work" / "checkpoint.safetensors")["done"] == 1
    assert same(fit(images, RunContext(tmp_path / "work")), fit(images, RunContext(tmp_path / "whole")))
