"""Class orders of CelebAMask-HQ: three are in circulation, and no merged mask says which it is in. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

BACKGROUND = "background"
#: Order of the published script, with its names: l_lip is the lower lip, l_eye the left eye, ear_r an earring,
#: r_ear the right ear, neck_l a necklace.
OFFICIAL = (
    BACKGROUND, "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth", "u_lip",
    "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth",
)  # fmt: skip
#: Order of face-parsing.PyTorch, whose network Labels4Free compares with.
BISENET = (
    BACKGROUND, "skin", "l_brow", "r_brow", "l_eye", "r_eye", "eye_g", "l_ear", "r_ear", "ear_r", "nose", "mouth",
    "u_lip", "l_lip", "neck", "neck_l", "cloth", "hair", "hat",
)  # fmt: skip
#: KLiSH's: both eyes, brows and ears are one class each, the necklace belongs to the neck.
KLISH15 = (
    BACKGROUND, "skin", "nose", "eye_g", "eye", "brow", "ear", "mouth", "u_lip", "l_lip", "hair", "hat", "ear_r",
    "neck", "cloth",
)  # fmt: skip
ORDERS: Mapping[str, tuple[str, ...]] = {"official": OFFICIAL, "bisenet": BISENET, "klish15": KLISH15}
MERGED: Mapping[str, str] = {
    "l_eye": "eye", "r_eye": "eye", "l_brow": "brow", "r_brow": "brow", "l_ear": "ear", "r_ear": "ear",
    "neck_l": "neck",
}  # fmt: skip
FOREGROUND = (BACKGROUND, "person")


def class_names(classes: str) -> tuple[str, ...]:
    """The names that the option `classes` stands for."""
    return ORDERS.get(classes, FOREGROUND)


def value_of(part: str, classes: str) -> int:
    """Class index of a part, one of the 18 or of KLiSH's merged ones; ValueError when the classes do not have it."""
    if classes.startswith("foreground"):
        return int(part != BACKGROUND and (classes == "foreground" or part != "cloth"))
    names = ORDERS[classes]
    name = part if part in names else MERGED.get(part, part)  # such as l_eye in 15 classes
    return names.index(name)
