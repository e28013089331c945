"""Methods beside each other on a folder of photographs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gsegkit.api.arguments import checked
from gsegkit.api.session import Session
from gsegkit.comparing.budget import seconds_of
from gsegkit.comparing.compare import Comparison, Wanted
from gsegkit.comparing.compare import compare as compare_folder
from gsegkit.engine.readers import build_reader
from gsegkit.errors import ConfigError

BUDGET = "10m"
LABELLED = 20  # photographs whose labels may be used, where there are masks
PHOTOGRAPHS = 200  # of more, as many are drawn


@checked
def compare(
    data: str | Path,
    out: str | Path,
    *,
    methods: Sequence[str] | None = None,
    runs: Sequence[str | Path] = (),
    budget: str = BUDGET,
    labelled: int = LABELLED,
    photographs: int = PHOTOGRAPHS,
    reader_options: dict[str, Any] | None = None,
    seed: int = 0,
    update: bool = False,
    device: str = "auto",
    session: Session | None = None,
) -> Comparison:
    """Say which method to take on a folder of photographs: every installed baseline, and runs that are given.

    With masks in the folder methods are scored against them; without, by criteria that need none. Each method is
    looked at alone and with the refiners that act on photographs. What was finished is kept in `out`, and not done
    again by the same call.

    Args:
        data: folder of photographs, with masks or without.
        out: new folder, or that of an earlier call on the same photographs.
        methods: segmenters that need no pairs, by name; None = all that are installed.
        runs: folders of finished runs, or made by `train` or `fit`.
        budget: time such as "90s", "10m" or "1h"; what does not fit is left out and named.
        labelled: most photographs whose labels may be used (at most half of them); they are not scored.
        photographs: most photographs; of more, as many are drawn by `seed`.
        reader_options: options of the folder's reader.
        seed: of every random number.
        update: replace a comparison of other photographs, or one that a smaller budget made on fewer of them.
        device: where to compute.
        session: see `run`.

    Returns:
        Rows, sentence and page.

    Raises:
        GsegkitError: a folder, a run, a name or the budget that cannot be used.
        InterruptedRunError: stopped; what was finished is kept.
    """
    session = session or Session.default()
    if labelled < 0:
        raise ConfigError(f"labelled={labelled}: a number of photographs", "0 uses no label")
    if photographs < 1:
        raise ConfigError(f"photographs={photographs}: at least one", "200 is usual")
    wanted = Wanted(
        None if methods is None else tuple(methods), tuple(Path(run) for run in runs), seconds_of(budget), labelled,
        photographs, update,
    )  # fmt: skip
    reader = build_reader(reader_options, session.registry)
    ctx = session.context(Path(out), device, seed)
    return compare_folder(Path(data), reader, session.registry, ctx, wanted)
