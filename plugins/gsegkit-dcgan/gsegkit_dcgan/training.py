"""Training: non-saturating or hinge loss, a gradient penalty on real images, averaged weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsegkit.context import RunContext, Stateful
from gsegkit.dataset import UnlabelledImages
from gsegkit.seeds import isolated_rng
from gsegkit.training import (
    GanWatch,
    ImageBank,
    WeightAverage,
    check_divides,
    common_statistics,
    descend,
    r1_penalties,
    random_photographs,
    rows_of,
    whole_mean,
)
from gsegkit_dcgan.config import DCGANConfig
from gsegkit_dcgan.networks import Discriminator, GeneratorNet

ADAM_BETA2 = 0.99

Mean = Callable[[Tensor], Tensor]  # over the batch


def train(config: DCGANConfig, images: UnlabelledImages, ctx: RunContext, device: torch.device) -> dict[str, Tensor]:
    """Train from random weights; the state dict of the averaged generator.

    All randomness derives from the seed and the step's number, so an interrupted training that is run again ends in
    the same weights as an uninterrupted one.

    Raises:
        ConfigError: the batch has fewer rows than there are processes.
        DataError: too few photographs, or too many that cannot be read.
        DivergedError: a loss became non-finite.
    """
    check_divides(ctx.team, config.batch_size)
    size = (config.resolution, config.resolution)
    bank = ImageBank(images, size, config.fit, ctx, device=device)
    with isolated_rng(ctx.seed):
        generator = GeneratorNet(config.new_arch()).to(device).train()
        discriminator = Discriminator(config.resolution, config.channels, config.channel_max).to(device)
    average = WeightAverage(generator)
    g_optim, d_optim = (_adam(net, config) for net in (generator, discriminator))
    watch = GanWatch()  # not part of the state: it changes nothing but the moment of a warning
    state: dict[str, Stateful] = {
        "generator": generator,
        "discriminator": discriminator,
        "average": average.module,
        "g_optim": g_optim,
        "d_optim": d_optim,
    }
    team, n = ctx.team, config.batch_size
    rows = rows_of(team, n)  # every process draws the whole batch
    mean = partial(whole_mean, team, count=n)
    loop = ctx.steps(config.steps, state=state, name="training dcgan")
    for step in loop:
        reals = random_photographs(bank, n, config.mirror, rows)
        with common_statistics(team):
            fakes = generator(torch.randn(n, config.z_dim, device=device)[rows])
        real_scores = discriminator(reals)
        d_loss = _discriminator_loss(config, real_scores, discriminator(fakes.detach()), mean)
        if config.r1_gamma and step % config.r1_interval == 0:
            penalty = mean(r1_penalties(discriminator, reals))
            d_loss = d_loss + config.r1_interval * config.r1_gamma / 2 * penalty
        descend(d_optim, d_loss, team)
        g_loss = _generator_loss(config, discriminator(fakes), mean)
        descend(g_optim, g_loss, team)
        average.update(config.ema_decay if step >= config.start_steps else 0.0)
        real_logit = mean(real_scores.detach())
        if team.first:  # it sees its own rows; it only warns
            watch.see(step, reals, fakes.detach(), {"real_logit": real_logit})
        for warning in watch.warnings():
            ctx.warn(warning)
        loop.log(g_loss=g_loss, d_loss=d_loss)
    return average.module.state_dict()


def _adam(network: nn.Module, config: DCGANConfig) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), lr=config.lr, betas=(config.beta1, ADAM_BETA2))


def _discriminator_loss(config: DCGANConfig, real: Tensor, fake: Tensor, mean: Mean) -> Tensor:
    if config.loss == "hinge":  # Lim & Ye 2017
        return mean(F.relu(1 - real)) + mean(F.relu(1 + fake))
    return mean(F.softplus(-real)) + mean(F.softplus(fake))  # Goodfellow et al. 2014, logistic form


def _generator_loss(config: DCGANConfig, fake: Tensor, mean: Mean) -> Tensor:
    return -mean(fake) if config.loss == "hinge" else mean(F.softplus(-fake))
