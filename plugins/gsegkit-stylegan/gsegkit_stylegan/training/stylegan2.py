"""Training of StyleGAN2: the algorithm, readable next to the paper (Karras et al. 2020, sections 3 and 4; ADA 2020).

Stateless randomness: data order, augmentation, latents and noise are functions of (seed, step) alone, so a training
that was killed and resumed ends, on a CPU, with bit-identical weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsegkit.context import RunContext, Stateful
from gsegkit.images import grid, to_pixels, write_png
from gsegkit.seeds import child_seed
from gsegkit.training import (
    GanWatch,
    RecordedSteps,
    WeightAverage,
    add_gradients,
    r1_penalties,
    rows_of,
    tuned_convolutions,
    upload,
    whole_mean,
    whole_rows,
)
from gsegkit_stylegan.config_train import TrainOptions
from gsegkit_stylegan.networks.discriminator import Discriminator
from gsegkit_stylegan.networks.stylegan2 import NoiseSource, StyleGAN2Network, lay_out
from gsegkit_stylegan.training.ada import AdaController, apply_augmentation, draw_augmentation
from gsegkit_stylegan.training.photographs import RealImages
from gsegkit_stylegan.training.shares import own_rows

ADAM_BETAS = (0.0, 0.99)
W_AVG_BETA = 0.995
PATH_DECAY = 0.01
GRID_SAMPLES = 48

Draws = dict[str, Tensor]  # what a step draws at random, by name


class StyleGAN2Trainer:
    """Generator against discriminator; `run()` leaves the averaged weights in the network.

    The processes of `ctx.team` divide each batch by whole groups of the minibatch standard deviation. All draw for the
    whole batch and keep their rows; means and gradients are those of all rows.

    Args:
        network: generator to train, on its device.
        options: all training options.
        reals: the photographs.
        ctx: progress, folder, seed, processes.

    Raises:
        ConfigError: the batch cannot be divided among the processes.
    """

    def __init__(self, network: StyleGAN2Network, options: TrainOptions, reals: RealImages, ctx: RunContext) -> None:
        self.options, self.reals, self.ctx, self.team = options, reals, ctx, ctx.team
        self.rows = own_rows(self.team, options.batch_size)
        self.arch = network.arch
        self.device = next(network.parameters()).device
        growing = bool(options.grow_from)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(child_seed(ctx.seed, "weights"))
            self.G = StyleGAN2Network(self.arch).to(self.device)
            self.D = Discriminator(self.arch, image_skips=growing).to(self.device)
        if growing:
            _silence_upper_images(self.G, options.grow_from)
        for net in (self.G, self.D):
            lay_out(net)
        self.target = network
        self.average = WeightAverage(self.G, copy_buffers=True)
        self.G_ema = self.average.module
        self.adam_G = _adam(self.G, options.lr_generator, options.path_interval if options.path_weight else None)
        self.adam_D = _adam(self.D, options.lr_discriminator, options.r1_interval if options.r1_gamma else None)
        self.ada = AdaController(
            options.ada_target, options.ada_kimg, options.ada_interval, options.batch_size, options.ada_start
        )
        self.path_mean = _Scalar()
        self.watch = GanWatch()
        wanted = options.train_dtype
        half = wanted == "bfloat16" or (wanted == "auto" and self.device.type == "cuda")
        self.dtype = torch.bfloat16 if half else torch.float32
        recorded = options.record_steps and self.device.type == "cuda" and self.team.alone
        self.recorded = RecordedSteps(ctx, self.device) if recorded else None

    @property
    def total(self) -> int:
        """Steps of the whole training."""
        return max(1, math.ceil(self.options.kimg * 1000 / self.options.batch_size))

    def run(self) -> None:
        """Train to the end, from the last checkpoint if there is one; writes sample grids into the context's folder."""
        state: dict[str, Stateful] = {
            "G": self.G, "D": self.D, "G_ema": self.G_ema, "adam_G": self.adam_G, "adam_D": self.adam_D,
            "ada": self.ada, "path_mean": self.path_mean, "watch": self.watch,
        }  # fmt: skip
        every = max(1, round(self.options.snapshot_kimg * 1000 / self.options.batch_size))
        loop = self.ctx.steps(self.total, state=state, name="training StyleGAN2")
        started, first = time.monotonic(), None
        with tuned_convolutions():
            for step in loop:
                first = step if first is None else first
                values = self.step(step)
                speed = (step + 1 - first) * self.options.batch_size / max(time.monotonic() - started, 1e-9)
                loop.log(**values, images_per_second=speed)
                for warning in self.watch.warnings():
                    self.ctx.warn(warning)
                if (step + 1) % every == 0 or step + 1 == self.total:
                    self.snapshot(step + 1)
        if first is not None and loop.step + 1 < self.total:  # the time was over
            self.snapshot(loop.step + 1)
        self.target.load_state_dict(self.G_ema.state_dict())

    def step(self, step: int) -> dict[str, float | Tensor]:
        """One step of each network on images of the current resolution; numbers to log."""
        r = self.resolution_at(step)
        draws = self._draws(step, r)
        path = bool(self.options.path_weight) and step % self.options.path_interval == 0
        if self.recorded is None or path:
            made = self._updates(draws, r, step if path else None)
        else:
            made = self.recorded(f"{r} px", partial(self._updates, r=r), draws)
        fakes, seen, logits = (made.pop(name) for name in ("fakes", "seen", "logits"))
        logits = whole_rows(self.team, logits, self.rows, self.options.batch_size)
        values: dict[str, float | Tensor] = {**made, "real_logit": logits.mean()}
        if self.options.r1_gamma and step % self.options.r1_interval == 0:
            values["r1"] = self._r1_step(seen, draws.get("labels"))
        self.ada.update(step, logits)
        self._average(step)
        if self.team.first:  # it sees its own rows; it only warns
            self.watch.see(step, draws["reals"], fakes, values)
        return {**values, "ada_p": self.ada.p, "ada_rt": self.ada.r_t, "resolution": float(r)}

    def _updates(self, draws: Draws, r: int, path: int | None = None) -> dict[str, Tensor]:
        """G's step, its penalty at the step `path`, D's step. Recorded on a GPU: no draw, no number read in here."""
        for adam in (self.adam_G, self.adam_D):  # what a recording that failed half-way left
            adam.zero_grad(set_to_none=True)
        fakes, loss = self._generator_step(draws, r)
        made = {"fakes": fakes, "loss_G": loss}
        if path is not None:
            made["path_length"] = self._path_step(path, r)
        self.D.requires_grad_(True)
        return made | self._discriminator_step(draws, fakes)

    def resolution_at(self, step: int) -> int:
        """Image side at a step: doubled every `grow_kimg` from `grow_from` on, or the full one at once."""
        if not self.options.grow_from:
            return self.arch.resolution
        doublings = int(step * self.options.batch_size / (self.options.grow_kimg * 1000))
        return min(self.options.grow_from << min(doublings, 16), self.arch.resolution)

    # ---- generator: min E[softplus(-D(G(z)))] ------------------------------------------------------------------

    def _generator_step(self, draws: Draws, r: int) -> tuple[Tensor, Tensor]:
        self.D.requires_grad_(False)
        labels = draws.get("labels")
        ws = self._styles(draws, "z", labels)
        fakes = self.G.synthesis(ws, noise=lambda name, _: draws.get(f"noise {name}"), dtype=self.dtype, resolution=r)
        logits = self.D(augmented(fakes, draws, "G"), labels, self.dtype)
        loss = self._mean(F.softplus(-logits))  # non-saturating
        loss.backward()
        self._descend(self.G, self.adam_G)
        return fakes.detach(), loss.detach()

    def _path_step(self, step: int, r: int) -> Tensor:
        """Path-length regularisation: (|J_w^T y| - a)^2, a the running mean of |J_w^T y|."""
        half = max(1, self.options.batch_size // 2)
        rows = rows_of(self.team, half)
        labels = self._labels(step)
        draws = {name: drawn[rows] for name, drawn in self._latents(step, "path", half).items()}
        ws = self._styles(draws, "path", None if labels is None else labels[:half][rows], half)
        noise = self._noise(step, half, rows)
        images = self.G.synthesis(ws, noise=noise, resolution=r)
        y = self._normals(step, "path y", (half, *images.shape[1:]))[rows] / math.sqrt(images[0, 0].numel())
        (jacobian,) = torch.autograd.grad((images * y).sum(), ws, create_graph=True)
        lengths = jacobian.square().sum(dim=2).mean(dim=1).sqrt()
        mean = whole_mean(self.team, lengths.detach(), half)
        self.path_mean.value += PATH_DECAY * (float(mean) - self.path_mean.value)
        penalty = whole_mean(self.team, (lengths - self.path_mean.value).square(), half)
        (penalty * self.options.path_weight * self.options.path_interval).backward()
        self._descend(self.G, self.adam_G)
        return mean

    # ---- discriminator: min E[softplus(D(G(z)))] + E[softplus(-D(x))], lazy R1 ---------------------------------

    def _discriminator_step(self, draws: Draws, fakes: Tensor) -> dict[str, Tensor]:
        labels = draws.get("labels")
        loss_fake = self._mean(F.softplus(self.D(augmented(fakes, draws, "fake"), labels, self.dtype)))
        loss_fake.backward()
        seen = augmented(draws["reals"], draws, "real")
        logits = self.D(seen, labels, self.dtype)
        loss_real = self._mean(F.softplus(-logits))
        loss_real.backward()
        self._descend(self.D, self.adam_D)
        return {"loss_D": (loss_fake + loss_real).detach(), "seen": seen, "logits": logits.detach()}

    def _r1_step(self, reals: Tensor, labels: Tensor | None) -> Tensor:
        """R1: gamma / 2 E[|grad_x D(x)|^2] at the images that D sees, every r1_interval steps, that much stronger."""
        penalty = self._mean(r1_penalties(lambda images: self.D(images, labels), reals))
        (penalty * (self.options.r1_gamma / 2 * self.options.r1_interval)).backward()
        self._descend(self.D, self.adam_D)
        return penalty.detach()

    # ---- one update --------------------------------------------------------------------------------------------

    def _mean(self, values: Tensor) -> Tensor:
        """Mean over the whole batch of a value for each row."""
        return whole_mean(self.team, values, self.options.batch_size)

    def _descend(self, net: nn.Module, adam: torch.optim.Adam) -> None:
        """One step down the gradient of all processes."""
        add_gradients(self.team, net.parameters())
        adam.step()
        adam.zero_grad(set_to_none=True)

    # ---- weight average ----------------------------------------------------------------------------------------

    def _average(self, step: int) -> None:
        """G_ema: half-life ema_kimg, shorter at the start so that the first noise is soon forgotten."""
        shown = (step + 1) * self.options.batch_size
        half_life = min(self.options.ema_kimg * 1000, shown * self.options.ema_rampup)
        beta = 0.5 ** (self.options.batch_size / max(half_life, 1e-8))
        self.average.update(beta)

    # ---- draws, all functions of (seed, step) ------------------------------------------------------------------

    def _generator(self, step: int, name: str) -> torch.Generator:
        return torch.Generator().manual_seed(child_seed(self.ctx.seed, "step", step, name))

    def _normals(self, step: int, name: str, shape: tuple[int, ...]) -> Tensor:
        return upload(torch.randn(shape, generator=self._generator(step, name)), self.device)

    def _labels(self, step: int) -> Tensor | None:
        return self.reals.labels(step)

    def _draws(self, step: int, r: int) -> Draws:
        """All that a step draws, for this process's rows: photographs, labels, latents, noise of the layers, warps."""
        n, options = self.options.batch_size, self.options
        draws = self._latents(step, "z", n)
        labels = self._labels(step)
        if labels is not None:
            draws["labels"] = labels
        source = self._noise(step)
        for name, side in self.arch.noise_inputs(r):
            noise = source(name, side)
            if noise is not None:
                draws[f"noise {name}"] = noise
        for name in ("G", "fake", "real"):
            generator = self._generator(step, f"augment {name}")
            for kind, matrix in draw_augmentation(n, r, self.ada.p, options.augment, generator).items():
                draws[f"augment {name} {kind}"] = upload(matrix, self.device)
        if not self.team.alone:
            rows = upload(self.rows, self.device)
            draws = {name: drawn[rows] for name, drawn in draws.items()}
        return {"reals": self.reals.batch(step, r, self.rows), **draws}

    def _latents(self, step: int, name: str, n: int) -> Draws:
        """[n, z_dim]; with style mixing also a second one and which layers take it, [n, num_ws, 1]."""
        draws = {name: self._normals(step, name, (n, self.arch.z_dim))}
        if self.options.style_mixing:
            draws[f"{name} mixed"] = self._normals(step, f"{name} mixed", (n, self.arch.z_dim))
            coins = torch.rand(n, 2, generator=self._generator(step, f"{name} cut"))
            cut = (coins[:, :1] * (self.arch.num_ws - 1)).long() + 1
            mixed = (torch.arange(self.arch.num_ws) >= cut) & (coins[:, 1:] < self.options.style_mixing)
            draws[f"{name} cut"] = upload(mixed[:, :, None], self.device)
        return draws

    def _styles(self, draws: Draws, name: str, labels: Tensor | None, count: int | None = None) -> Tensor:
        """[n, num_ws, w_dim]; tracks the mean w of all `count` rows; mixes two latents in a share of the samples."""
        w = self.G.mapping(draws[name], labels)
        mean = w.detach().mean(dim=0)
        if not self.team.alone:
            mean = self.team.sum(w.detach().sum(dim=0)) / (count or self.options.batch_size)
        self.G.mapping.w_avg.lerp_(mean, 1 - W_AVG_BETA)
        ws = self.G.broadcast(w)
        if not self.options.style_mixing:
            return ws
        other = self.G.mapping(draws[f"{name} mixed"], labels)
        return torch.where(draws[f"{name} cut"], self.G.broadcast(other), ws)

    def _noise(self, step: int, n: int | None = None, rows: slice = slice(None)) -> NoiseSource:
        """Fresh noise of `rows` of n samples for every layer; on a GPU it is drawn there."""
        n = self.options.batch_size if n is None else n
        generator = torch.Generator(self.device).manual_seed(child_seed(self.ctx.seed, "step", step, "noise"))
        return lambda name, r: torch.randn(n, 1, r, r, generator=generator, device=self.device)[rows]

    # ---- samples ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def snapshot(self, done: int) -> None:
        """Write samples of the averaged generator, always of the same latents."""
        if not self.team.first:
            return
        z = torch.randn(GRID_SAMPLES, self.arch.z_dim, generator=torch.Generator().manual_seed(1)).to(self.device)
        labels = None
        if self.arch.num_classes:
            labels = torch.arange(GRID_SAMPLES, device=self.device) % self.arch.num_classes
        ws = self.G_ema.broadcast(self.G_ema.mapping(z, labels))
        images = self.G_ema.synthesis(ws, resolution=self.resolution_at(done - 1))
        kimg = done * self.options.batch_size / 1000
        write_png(self.ctx.folder / "samples" / f"kimg-{kimg:09.3f}.png", grid(to_pixels(images), 12))


def augmented(images: Tensor, draws: Draws, name: str) -> Tensor:
    """Images under the augmentation drawn for them; the images themselves when there is none."""
    kinds = {kind: f"augment {name} {kind}" for kind in ("warp", "colour")}
    return apply_augmentation(images, {kind: draws[key] for kind, key in kinds.items() if key in draws})


class _Scalar:
    """A number that is part of the training state."""

    def __init__(self) -> None:
        self.value = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        self.value = float(state["value"])


def _adam(net: nn.Module, lr: float, lazy: int | None) -> torch.optim.Adam:
    """Adam; a penalty taken only every k steps adds k + 1 updates a period, so lr and betas shrink by k / (k + 1)."""
    share = 1.0 if lazy is None else lazy / (lazy + 1)
    betas = (ADAM_BETAS[0] ** share, ADAM_BETAS[1] ** share)
    cuda = next(net.parameters()).device.type == "cuda"
    fused = True if cuda else None  # one kernel instead of a dozen
    return _Adam(net.parameters(), lr=lr * share, betas=betas, eps=1e-8, fused=fused, capturable=cuda)


class _Adam(torch.optim.Adam):
    """Adam whose state may come from another kind of device."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take moments back: updated as this device does it, in the memory layout of their parameters."""
        own = {name: self.defaults[name] for name in ("fused", "capturable")}
        groups = [{**group, **own} for group in state_dict["param_groups"]]
        super().load_state_dict({**state_dict, "param_groups": groups})
        for parameter, state in self.state.items():  # files hold no strides, and unlike ones make a slow update
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = torch.empty_like(parameter, requires_grad=False).copy_(state[name])


@torch.no_grad()
def _silence_upper_images(network: StyleGAN2Network, start: int) -> None:
    """New resolutions begin with no effect on the image, so that growing does not disturb what was learned."""
    for r in network.arch.resolutions:
        if r > start:
            getattr(network.synthesis, f"b{r}").torgb.weight.zero_()
