"""What was seen in a folder of photographs, in plain sentences."""

from __future__ import annotations

from gsegkit.errors import and_more, plural
from gsegkit.looking.look import Look, Spread

SAME = 1.02  # largest over smallest, up to which numbers are one
UNLIKE_RATIOS = 1.3  # aspect ratios beyond it are distorted noticeably when they become square
NAMED = 3  # groups or files in a sentence


def sentences(found: Look) -> list[str]:
    """One sentence for each thing that is worth knowing, in the order in which one asks."""
    said = [
        f"{plural(found.photographs, 'photograph')}"
        + (f", {found.looked_at:,} of them looked at" if found.looked_at < found.photographs else "")
        + f"; {_sizes(found)}; {_colours(found)}."
    ]
    if found.ratio.most > UNLIKE_RATIOS * found.ratio.least:
        said.append(
            f"Aspect ratios (width / height) differ: {_range(found.ratio)}. A generator is square, so the "
            "photographs are distorted unlike each other; crops of one shape, or -o gen.fit=crop, would be better."
        )
    if found.unreadable:
        said.append(
            f"{plural(len(found.unreadable), 'file')} cannot be read and will be left out: "
            f"{and_more(found.unreadable, NAMED, ', ')}."
        )
    if found.plain:
        said.append(f"{plural(found.plain, 'photograph')} of one colour: nothing can be found in them.")
    if found.duplicates:
        copies = sum(len(group) - 1 for group in found.duplicates)
        shown = and_more([" = ".join(group[:NAMED]) for group in found.duplicates], NAMED)
        said.append(
            f"{plural(len(found.duplicates), 'group')} of near-duplicates; all but the first of each, together "
            f"{copies:,}, will be left out: {shown}."
        )
    said.append(_framing(found))
    return said


def _framing(found: Look) -> str:
    if found.framed:
        return (
            "One thing is centred in most of them: a generator can learn its parts "
            f"(the middle is {found.contrast:.1f} deviations of the border away from it, "
            f"{found.alignment:.0%} of the variance is one picture that all share)."
        )
    return (
        "Things are all over the picture, or fill it: a generator learns textures rather than parts "
        f"(the middle is only {found.contrast:.1f} deviations of the border away from it, "
        f"{found.alignment:.0%} of the variance is one picture that all share). Crops around one thing each would help."
    )


def _sizes(found: Look) -> str:
    if max(found.width.most / found.width.least, found.height.most / found.height.least) <= SAME:
        return f"all about {found.width.median:.0f} x {found.height.median:.0f}"
    small = f"{found.width.least:.0f} x {found.height.least:.0f}"
    large = f"{found.width.most:.0f} x {found.height.most:.0f}"
    return f"between {small} and {large}, most about {found.width.median:.0f} x {found.height.median:.0f}"


def _colours(found: Look) -> str:
    if found.grey >= 0.95:
        return "grey, so methods that go by colour will find little"
    return "in colour" if found.grey <= 0.05 else f"{found.grey:.0%} of them grey"


def _range(spread: Spread) -> str:
    return f"{spread.least:.2f} to {spread.most:.2f}, median {spread.median:.2f}"
