"""The painting page, served: for painters that need Python, and for runs, which paint without any training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsegkit.api.arguments import checked
from gsegkit.api.given import ClassNames, given_names, names_of_run
from gsegkit.api.painting import open_painter
from gsegkit.api.session import Session
from gsegkit.painting.examples import Examples, examples_of, stored_examples
from gsegkit.painting.page import page_data, policy, render
from gsegkit.painting.painter import Painter
from gsegkit.painting.sampling import MaskSampling

if TYPE_CHECKING:
    from gsegkit.painting.server import PaintServer

SAMPLES = 64  # of the generator, among which a run's examples are chosen


@checked
def paint_server(
    folder: str | Path,
    *,
    classes: ClassNames | None = None,
    options: dict[str, Any] | None = None,
    port: int = 0,
    device: str = "auto",
    session: Session | None = None,
) -> PaintServer:
    """A server of the painting page on this machine, listening. `serve()` answers until Ctrl-C; `url` is what to open.

    Args:
        folder: of `train_painter`, or a finished run, which paints by mask-sampling.
        classes: names for a run's clusters, see `open_painter`.
        options: of mask-sampling.
        port: where to listen; 0 = a free one.
        device: where to compute.
        session: see `run`.

    Raises:
        ConfigError: the port cannot be listened on; and see `open_painter`.
    """
    from gsegkit.painting.server import PaintServer

    session, folder = session or Session.default(), Path(folder)
    painter = open_painter(folder, classes=classes, options=options, device=device, session=session)
    examples = _examples(painter, folder, given_names(classes, folder, session, device))
    model = page_data(painter, examples, folder.resolve().name)
    ctx = session.context(folder, device)
    server = PaintServer(painter, render(), policy(static=False), model, port=port, say=ctx.warn)
    server.warm_up()
    return server


def _examples(painter: Painter, folder: Path, names: Any) -> Examples:
    if not isinstance(painter, MaskSampling):
        return stored_examples(folder, painter)
    return examples_of(painter.samples(SAMPLES), folder, names_of_run(folder, names))
