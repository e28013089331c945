"""annotate.json: where the pictures of a folder to annotate come from, and which of them a person has done."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StrictInt, StrictStr, StringConstraints

from gsegkit.records.files import Record

ANNOTATED_FILE = "annotate.json"  # its folder's masks are indices: 255 is unknown, whatever else they hold

Colour = Annotated[str, StringConstraints(pattern=r"^#[0-9a-f]{6}$")]
Side = Annotated[StrictInt, Field(ge=1)]


class GeneratorRecord(Record):
    """What paints the pictures again.

    Attributes:
        name: component.
        options: its own, truncation included.
        facts: what its part stored of itself.
        weights: hash of its tensors, see `gsegkit.tensors.state_hash`.
    """

    name: StrictStr
    options: dict[str, Any]
    facts: dict[str, Any]
    weights: StrictStr


class Picture(Record):
    """One generated picture: images/SEED.png.

    Attributes:
        seed: its identity, of purpose "annotate".
        draft: fingerprint of the extractor that made the first mask; "" = none did.
    """

    seed: StrictInt
    draft: StrictStr = ""


class AnnotatedRecord(Record):
    """The file.

    Attributes:
        generator: what painted the pictures; None = they are photographs of a person's own.
        size: (height, width) of the pictures; None as above.
        batch_size: micro-batch of the pictures, which they depend on to rounding.
        pictures: every one that was made, those included that a person has removed since.
        colours: of the classes, as far as they were given.
        done: names of the pictures that a person has done.
    """

    generator: GeneratorRecord | None = None
    size: tuple[Side, Side] | None = None
    batch_size: StrictInt = 0
    pictures: tuple[Picture, ...] = ()
    colours: tuple[Colour, ...] = ()
    done: tuple[StrictStr, ...] = ()
