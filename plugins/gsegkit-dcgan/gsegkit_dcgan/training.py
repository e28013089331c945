"""Training: non-saturating or hinge loss, a gradient penalty on real images, averaged weights."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsegkit.context import RunContext, Stateful
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import DataError
from gsegkit.images import to_images
from gsegkit.seeds import isolated_rng
from gsegkit_dcgan.config import DCGANConfig
from gsegkit_dcgan.networks import Discriminator, GeneratorNet

ADAM_BETA2 = 0.99
MIN_IMAGES = 2
MEMORY = 2 << 30  # bytes of decoded photographs


def train(config: DCGANConfig, images: UnlabelledImages, ctx: RunContext, device: torch.device) -> dict[str, Tensor]:
    """Train from random weights; the state dict of the averaged generator.

    All randomness derives from the seed and the step's number, so an interrupted training that is run again ends in
    the same weights as an uninterrupted one.

    Raises:
        DataError: too few images, or more than fit in memory.
        DivergedError: a loss became non-finite.
    """
    pixels = _load(config, images)
    with isolated_rng(ctx.seed):
        generator = GeneratorNet(config.new_arch()).to(device).train()
        discriminator = Discriminator(config.resolution, config.channels, config.channel_max).to(device)
    average = copy.deepcopy(generator).requires_grad_(False)
    g_optim, d_optim = (_adam(net, config) for net in (generator, discriminator))
    state: dict[str, Stateful] = {
        "generator": generator,
        "discriminator": discriminator,
        "average": average,
        "g_optim": g_optim,
        "d_optim": d_optim,
    }
    loop = ctx.steps(config.steps, state=state, name="training dcgan")
    for step in loop:
        reals = _batch(pixels, config, device)
        fakes = generator(torch.randn(config.batch, config.z_dim, device=device))
        d_loss = _discriminator_loss(config, discriminator(reals), discriminator(fakes.detach()))
        if config.r1 and step % config.r1_interval == 0:
            d_loss = d_loss + config.r1_interval * config.r1 / 2 * _penalty(discriminator, reals)
        _update(d_optim, d_loss)
        g_loss = _generator_loss(config, discriminator(fakes))
        _update(g_optim, g_loss)
        _average(average, generator, config.ema if step >= config.start_steps else 0.0)
        loop.log(g_loss=g_loss, d_loss=d_loss)
    return average.state_dict()


def _load(config: DCGANConfig, images: UnlabelledImages) -> Tensor:
    """All photographs at the network's size, [M, 3, R, R] uint8."""
    if len(images) < MIN_IMAGES:
        raise DataError(f"{len(images)} images cannot train a generator", f"give at least {MIN_IMAGES}")
    size = config.resolution
    needed = len(images) * 3 * size * size
    if needed > MEMORY:
        raise DataError(f"{len(images)} images of {size} px need {needed >> 20} MB of memory", "give fewer images")
    return images.fitted((size, size), config.fit).batch(range(len(images)))


def _batch(pixels: Tensor, config: DCGANConfig, device: torch.device) -> Tensor:
    """A random batch, [N, 3, R, R] float32 in [-1, 1]; half of it mirrored."""
    chosen = pixels[torch.randint(len(pixels), (config.batch,))]
    if config.mirror:
        turned = torch.rand(config.batch) < 0.5
        chosen = torch.where(turned[:, None, None, None], chosen.flip(3), chosen)
    return to_images(chosen.to(device))


def _adam(network: nn.Module, config: DCGANConfig) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), lr=config.lr, betas=(config.beta1, ADAM_BETA2))


def _discriminator_loss(config: DCGANConfig, real: Tensor, fake: Tensor) -> Tensor:
    if config.loss == "hinge":  # Lim & Ye 2017
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return F.softplus(-real).mean() + F.softplus(fake).mean()  # Goodfellow et al. 2014, logistic form


def _generator_loss(config: DCGANConfig, fake: Tensor) -> Tensor:
    return -fake.mean() if config.loss == "hinge" else F.softplus(-fake).mean()


def _penalty(discriminator: nn.Module, reals: Tensor) -> Tensor:
    """R1 (Mescheder et al. 2018): squared gradient of the score at real images."""
    reals = reals.requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(reals).sum(), reals, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


def _update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


@torch.no_grad()
def _average(average: nn.Module, network: nn.Module, decay: float) -> None:
    for mean, value in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)
