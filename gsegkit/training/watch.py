"""Alarms of a GAN training: collapse, and a discriminator that has won."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

WATCH_EVERY = 20  # steps between two looks of the watch; reading a number stalls a GPU
SMOOTHING = 0.9  # of the running means
COLLAPSED = 0.25  # samples vary less than this share of what real images do
WON = 6.0  # mean real logit beyond which D is certain of everything
QUIET = 50  # looks between two warnings of a kind
WARM_UP = 200  # steps before the first warning


class GanWatch:
    """Running means of how much samples vary against real images, and of the discriminator's certainty."""

    def __init__(self) -> None:
        self.variety = 1.0
        self.certainty = 0.0
        self.quiet = {"collapse": 0, "won": 0}
        self._pending: list[str] = []

    def see(self, step: int, reals: Tensor, fakes: Tensor, values: Mapping[str, float | Tensor]) -> None:
        """Look at one step: real and generated [N, 3, H, W] in [-1, 1], and `values["real_logit"]`."""
        if step % WATCH_EVERY:
            return
        ratio = float(fakes.float().std(dim=0).mean() / reals.std(dim=0).mean().clamp_min(1e-6))
        self.variety = SMOOTHING * self.variety + (1 - SMOOTHING) * ratio
        self.certainty = SMOOTHING * self.certainty + (1 - SMOOTHING) * float(values["real_logit"])
        self.quiet = {kind: max(0, count - 1) for kind, count in self.quiet.items()}
        if step < WARM_UP:
            return
        if self.variety < COLLAPSED:
            self._warn("collapse", f"samples vary only {self.variety:.0%} as much as the photographs: collapse?")
        if self.certainty > WON:
            self._warn("won", f"the discriminator is certain (mean real logit {self.certainty:.1f}): raise r1_gamma")

    def warnings(self) -> list[str]:
        """Warnings since the last call."""
        pending, self._pending = self._pending, []
        return pending

    def state_dict(self) -> dict[str, Any]:
        """All that changes."""
        return {"variety": self.variety, "certainty": self.certainty, "quiet": dict(self.quiet)}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Take a state back."""
        self.variety, self.certainty = float(state["variety"]), float(state["certainty"])
        self.quiet = {kind: int(count) for kind, count in state["quiet"].items()}

    def _warn(self, kind: str, text: str) -> None:
        if self.quiet[kind] == 0:
            self._pending.append(text)
            self.quiet[kind] = QUIET
