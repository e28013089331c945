"""Training of `sngan`: hinge loss, a spectrally normalised residual discriminator, averaged weights."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from gsegkit_resgan.network import Network
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

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
    random_photographs,
    rows_of,
    whole_mean,
)
from gsegkit_studiogan.config import SNGANConfig

ADAM_BETAS = (0.0, 0.9)
LAST_SIDE = 8  # of the discriminator's maps, which are summed up


def train(config: SNGANConfig, images: UnlabelledImages, ctx: RunContext, device: torch.device) -> dict[str, Tensor]:
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
        generator = Network(config.trained_arch())
        discriminator = Discriminator(config.resolution, config.d_channels)
    for network in (generator, discriminator):
        network.to(device).to(memory_format=torch.channels_last).train()
    average = WeightAverage(generator)
    g_optim, d_optim = (_adam(network, config) for network in (generator, discriminator))
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
    loop = ctx.steps(config.steps, state=state, name="training sngan")
    for step in loop:
        for _ in range(config.d_steps):
            reals = random_photographs(bank, n, config.mirror, rows)
            with torch.no_grad(), common_statistics(team):
                fakes = generator(_noise(config, device)[rows])
            real_scores = discriminator(reals)
            d_loss = mean(F.relu(1 - real_scores)) + mean(F.relu(1 + discriminator(fakes)))
            descend(d_optim, d_loss, team)
        with common_statistics(team):
            painted = generator(_noise(config, device)[rows])
        g_loss = -mean(discriminator(painted))
        descend(g_optim, g_loss, team)
        average.update(config.ema_decay if step >= config.start_steps else 0.0)
        real_logit = mean(real_scores.detach())
        if team.first:  # it sees its own rows; it only warns
            watch.see(step, reals, fakes, {"real_logit": real_logit})
        for warning in watch.warnings():
            ctx.warn(warning)
        loop.log(g_loss=g_loss, d_loss=d_loss)
    return average.module.state_dict()


def _noise(config: SNGANConfig, device: torch.device) -> Tensor:
    return torch.randn(config.batch_size, config.z_dim, device=device)


def _adam(network: nn.Module, config: SNGANConfig) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), lr=config.lr, betas=ADAM_BETAS)


class Discriminator(nn.Module):
    """Image -> one number: residual blocks that halve the side down to 8 px, two more, the sum of what is positive."""

    def __init__(self, resolution: int, channels: int) -> None:
        super().__init__()
        halvings = resolution.bit_length() - LAST_SIDE.bit_length()
        ends = [(3, channels), *[(channels, channels)] * (halvings + 1)]
        downs = [i < halvings for i in range(len(ends))]
        pairs = zip(ends, downs, strict=True)
        self.blocks = nn.ModuleList(DownBlock(*end, down=down, first=end[0] == 3) for end, down in pairs)
        self.last = spectral_norm(nn.Linear(channels, 1))

    def forward(self, images: Tensor) -> Tensor:
        """[N, 3, R, R] in [-1, 1] -> [N]; large = real."""
        x = images
        for block in self.blocks:
            x = block(x)
        return self.last(F.relu(x).sum(dim=(2, 3)))[:, 0]


class DownBlock(nn.Module):
    """ReLU, 3x3, ReLU, 3x3, halve; beside it a 1x1 shortcut, halved. The first block sees pixels: no ReLU before it."""

    def __init__(self, inputs: int, outputs: int, *, down: bool, first: bool) -> None:
        super().__init__()
        self.down, self.first = down, first
        self.convs = nn.ModuleList(spectral_norm(nn.Conv2d(n, outputs, 3, padding=1)) for n in (inputs, outputs))
        self.shortcut = spectral_norm(nn.Conv2d(inputs, outputs, 1)) if down or first else None

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, h, w] -> [N, outputs, h, w], or half the side."""
        hidden = self.convs[0](x if self.first else F.relu(x))
        hidden = self.convs[1](F.relu(hidden))
        skip = self._halved(x)
        if self.shortcut is not None:
            skip = self.shortcut(skip)
        return self._halved(hidden) + skip

    def _halved(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2) if self.down else x
