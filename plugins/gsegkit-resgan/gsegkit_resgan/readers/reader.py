"""What the checkpoint readers of the family share. A plugin's reader says for which generator it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gsegkit_foreign import opened, source_of

from gsegkit.checkpoints import Checkpoint, CheckpointFile
from gsegkit.interfaces import CheckpointReader
from gsegkit_resgan.readers.detect import find
from gsegkit_resgan.readers.selfcond import cluster_sizes


class FamilyReader(CheckpointReader):
    """A file is looked through once for all readers; those whose generators it is for take it."""

    def sniff(self, file: CheckpointFile) -> bool:
        """See `CheckpointReader.sniff`."""
        match = file.once(find)
        return match is not None and self.component in match.generators

    def read(self, file: CheckpointFile) -> Checkpoint:
        """See `CheckpointReader.read`."""
        match = file.once(find)
        assert match is not None
        found, foreign = match.read(), opened(file)
        arch = found.arch
        facts: dict[str, Any] = {"arch": arch.model_dump(mode="json"), "licence": found.licence}
        notes = found.notes
        if self.component == "selfcondgan":
            prior, note = _prior(file.path, arch.num_classes)
            facts["prior"], notes = prior, (*notes, note)
        classes = f", {arch.num_classes} classes" if arch.num_classes else ""
        return Checkpoint(
            component=self.component,
            layout=found.layout,
            state={name: tensor.float().contiguous() for name, tensor in found.state.items()},
            facts=facts,
            config={"weights": "none"},
            summary=f"{arch.side} px{classes}",
            notes=notes,
            licence=found.licence,
            source=source_of(foreign),
            card={"names_not_imported": sorted(foreign.names)},
        )


def _prior(path: Path, classes: int) -> tuple[list[float], str]:
    """How probable each class is, by the clusterer beside the model: published are `X_model.pt`, `X_clusterer.pkl`."""
    file = path.with_name(f"{path.stem.removesuffix('_model')}_clusterer.pkl")
    if file.is_file():
        return cluster_sizes(file, classes), f"classes are drawn by the sizes of the clusters in '{file.name}'"
    missing = f"'{file.name}', which says how frequent each class is, is not beside the model"
    return [], f"{missing}: classes are drawn alike (option clusterer)"
