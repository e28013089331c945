"""Reading files made by other software without executing anything in them.

Checkpoints of GANs are pickles, and loading a pickle runs whatever it says. This package reads
them with a machine of its own: names stay text, calls stay notes, and only a closed set of known
shapes (tensors, arrays, dicts) is turned into data. Damaged, hostile or foreign files leave as
`ArtifactError`, which says what was found.
"""

from gsegkit_foreign.limits import Limits, printable
from gsegkit_foreign.modules import ModuleTree, is_module, read_modules
from gsegkit_foreign.nodes import Opaque, Record, describe
from gsegkit_foreign.numbers import all_finite
from gsegkit_foreign.reader import ForeignFile, inspect, read_foreign
from gsegkit_foreign.wrappings import Network, networks, opened, source_of, taken_note

__all__ = [
    "ForeignFile",
    "Limits",
    "ModuleTree",
    "Network",
    "Opaque",
    "Record",
    "all_finite",
    "describe",
    "inspect",
    "is_module",
    "networks",
    "opened",
    "printable",
    "read_foreign",
    "read_modules",
    "source_of",
    "taken_note",
]
