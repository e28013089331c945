"""Progress as events. The library reports, the command line draws; by default nobody listens."""

from __future__ import annotations

from collections.abc import Mapping


class Progress:
    """A listener that ignores everything; the command line replaces it."""

    def start(self, task: str, total: int, done: int = 0, planned: int | None = None) -> None:
        """A loop begins.

        Args:
            task: `stage: loop`.
            total: its number of steps.
            done: how many a resume found already done.
            planned: number of steps without the smoke limit, when that is known.
        """

    def advance(self, done: int, values: Mapping[str, float]) -> None:
        """`done` steps of the current loop are finished; `values` are its latest numbers."""

    def finish(self) -> None:
        """The current loop ended, by whatever way."""

    def message(self, text: str, level: str = "info") -> None:
        """A sentence for the user; level "info" or "warning"."""
