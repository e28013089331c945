"""Class names that a verb is given for a finished run: nothing is trained again."""

from __future__ import annotations

from pathlib import Path

from gsegkit.api.session import Session
from gsegkit.classes.class_map import ClassMap, as_class_map, names_something_shipped, stored_class_map
from gsegkit.classes.in_classes import InClasses, at_present_cut
from gsegkit.classes.named import Named, Renamed
from gsegkit.classes.shipped import shipped_names
from gsegkit.classes.transfer import transferred
from gsegkit.dataset import LabelledDataset
from gsegkit.engine import sources
from gsegkit.engine.devices import pick_device
from gsegkit.errors import ConfigError
from gsegkit.interfaces import Generator, MaskExtractor, Segmenter
from gsegkit.tensors import state_hash

#: A classes.yaml, its content, or the name of names that ship with weights.
ClassNames = str | Path | ClassMap


def given_names(classes: ClassNames | None, run_folder: str | Path, session: Session, device: str) -> ClassMap | None:
    """The names as they fit the run's own fit; None for none.

    Names that ship with weights belong to the fit that ships with them. A run has a fit of its own, and its clusters
    get the names by what they cover on generated images, see `gsegkit.classes.transfer`.

    Raises:
        ConfigError: unreadable or unknown names, or those of other generator weights.
    """
    if classes is None or not names_something_shipped(classes):
        return as_class_map(classes)
    names = shipped_names(str(classes), session.registry)
    where = pick_device(device)
    extractor: MaskExtractor = sources.open_part(run_folder, "extractor", session.registry, where)
    if extractor.fingerprint() == names.classes.extractor:
        return names.classes
    generator: Generator = sources.open_part(run_folder, "generator", session.registry, where)
    names.check_generator(state_hash(generator))
    shipped = sources.open_part(names.folder, "extractor", session.registry, where)
    ctx = session.context(Path(run_folder), device)
    return transferred(Named(shipped, names.classes), extractor, generator, ctx)


def under_names(segmenter: Segmenter, names: ClassMap | None, run_folder: str | Path, session: Session) -> Segmenter:
    """The segmenter of a run under names; as it is for none, and where it was trained with these very names.

    Raises:
        ConfigError: the run has other names, or the names do not fit its clusters.
    """
    if names is None or _has_them(run_folder, names):
        return segmenter
    extractor: MaskExtractor = sources.open_part(run_folder, "extractor", session.registry, pick_device("cpu"))
    return InClasses(segmenter, extractor, names).to(segmenter.device).eval()


def pairs_under_names(
    pairs: LabelledDataset, names: ClassMap | None, run_folder: str | Path, session: Session
) -> LabelledDataset:
    """The pairs of a run under names; as they are for none, and where they were made with these very names.

    Raises:
        ConfigError: see `under_names`.
    """
    if names is None or _has_them(run_folder, names):
        return pairs
    extractor: MaskExtractor = sources.open_part(run_folder, "extractor", session.registry, pick_device("cpu"))
    return Renamed(pairs, at_present_cut(names, pairs.classes, extractor))


def names_of_run(run_folder: str | Path, names: ClassMap | None) -> ClassMap | None:
    """The names that a run's extractor gets: those given, else the run's own; None where there are neither.

    Raises:
        ConfigError: the run has other names.
    """
    return stored_class_map(run_folder) if names is None or _has_them(run_folder, names) else names


def _has_them(run_folder: str | Path, names: ClassMap) -> bool:
    """Whether a run was made with these names; ConfigError when it has others."""
    if (own := stored_class_map(run_folder)) is None:
        return False
    if own.identity == names.identity:
        return True
    raise ConfigError(
        f"the classes of '{run_folder}' have names already ({', '.join(own.names[:4])} ...)",
        "omit the class names, or give them to a run of its own with gsegkit run --classes",
    )
