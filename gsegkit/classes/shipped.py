"""Class names that ship with generator weights: a fitted extractor, and the names that its clusters were given.

They lie in the folder `names` of the weights: component.json and state.safetensors of the extractor, classes.yaml, and
card.json, which says of which generator, by whom and how.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsegkit.classes.class_map import FILE_NAME, ClassMap, names_something_shipped, read_class_map
from gsegkit.config import Available, Config
from gsegkit.errors import ConfigError, GsegkitError
from gsegkit.interfaces import Weights
from gsegkit.parts import find_part
from gsegkit.plugins import Registry
from gsegkit.storage import read_json

FOLDER = "names"  # of weights
CARD_FILE = "card.json"


@dataclass(frozen=True)
class ShippedNames:
    """Names of the clusters of one fit, with the fit.

    Attributes:
        name: of the names, such as "blood-cells".
        weights: name of the generator weights that they ship with.
        folder: of the fitted extractor.
        classes: the names.
        generator: hash of the generator's state that the extractor was fitted to.
        given: how the names were given, a sentence.
    """

    name: str
    weights: str
    folder: Path
    classes: ClassMap
    generator: str
    given: str

    def check(self, extractor: str, config: Config, generator: str, available: Available) -> None:
        """Raise ConfigError unless they belong to this extractor, whose options are the defaults, and this generator.

        Args:
            extractor: name of the component.
            config: its options, resolved: any that were changed would have no effect.
            generator: hash of its state.
            available: see `Config.resolved`.
        """
        record = find_part(self.folder, "extractor")
        default = type(config)().resolved(available)
        if extractor.partition("@")[0] != record.name or config != default:
            raise ConfigError(
                f"the names '{self.name}' belong to the extractor {record.name} with its default options",
                "take those, or name your own clusters with gsegkit name RUN",
            )
        self.check_generator(generator)

    def check_generator(self, generator: str) -> None:
        """Raise ConfigError unless they belong to the generator with this hash of its state."""
        if generator != self.generator:
            raise ConfigError(
                f"the names '{self.name}' belong to the generator weights '{self.weights}'",
                f"write -o gen.weights={self.weights}, or name your own clusters with gsegkit name RUN",
            )


def shipped_names(name: str, registry: Registry) -> ShippedNames:
    """The names called `name` that ship with installed weights.

    Raises:
        ConfigError: there are none of that name; the hint lists those that there are.
    """
    there: list[str] = []
    for entry in registry.of_kind("weights"):
        weights: Weights = registry.build("weights", entry.full_name)
        if weights.names == name:
            return read_names(name, entry.component.name, weights.folder() / FOLDER)
        there += [weights.names] if weights.names else []
    known = f"names that ship with weights: {', '.join(there)}" if there else "no installed weights have such names"
    raise ConfigError(f"no class names '{name}': not a file, and not names that ship with weights", known)


def with_shipped(fields: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    """Fields of a plan in which `classes` may be the name of names that ship with weights: then as their content.

    Raises:
        ConfigError: see `shipped_names`.
    """
    classes = fields.get("classes")
    if not names_something_shipped(classes):
        return dict(fields)
    return {**fields, "classes": shipped_names(str(classes), registry).classes, "shipped": str(classes)}


def read_names(name: str, weights: str, folder: Path) -> ShippedNames:
    """The names in a folder; ConfigError when they are damaged."""
    try:
        card: Any = read_json(folder / CARD_FILE)
        generator, given = str(card["generator"]), str(card["given"])
    except (GsegkitError, OSError, KeyError, TypeError) as error:
        raise ConfigError(f"the names '{name}' in '{folder}' are damaged", "reinstall the weights' package") from error
    return ShippedNames(name, weights, folder, read_class_map(folder / FILE_NAME), generator, given)
