"""The record of a part that was trained outside a run: what `claim_work` compares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gsegkit.config import build_config, current_names
from gsegkit.engine.claim import Renew
from gsegkit.errors import GsegkitError
from gsegkit.interfaces import ModulePart
from gsegkit.reading.scaling import DEFAULT_SCALING


def work_of(verb: str, name: str, part: ModulePart, seed: int, **more: Any) -> dict[str, Any]:
    """JSON-ready: the verb, the part with its options, the seed, and what else the result depends on."""
    own = {"verb": verb, "name": name, "options": part.config.model_dump(mode="json"), "seed": seed, **more}
    return own if part.scaling == DEFAULT_SCALING else {**own, "scaling": part.scaling}


def renewal(part: ModulePart) -> Renew:
    """Brings the record of a training to today's names of options, those that are new since then with defaults."""
    cls = type(part.config)

    def renew(work: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            config = build_config(cls, current_names(cls, work["options"]), "stored")
        except (GsegkitError, KeyError, TypeError, AttributeError):  # of another part: the difference is shown
            return work
        return {**work, "options": config.model_dump(mode="json")}

    return renew
