"""The conformance kit over this plugin.

Its segmenters share one class and differ only in the network that it builds. The checks that train again run on the
first two members (in the order of their names), and on the others those that construct, train once, and predict at
odd sizes. Nothing else is left out: `gsegkit test-plugin NAME` runs every check of any of them.
"""

from gsegkit.plugins import Entry, installed
from gsegkit.testing import parametrize_with_checks

FULL = 2  # members of the family that get every check
TRAIN_AGAIN = {"same-seed", "resume", "ignored-pixels", "data-unchanged", "global-state"}


def _select(entry: Entry, check: str) -> bool:
    if check not in TRAIN_AGAIN:
        return True
    family = [e for e in installed().of_kind("segmenter") if e.component.target == entry.component.target]
    return entry in family[:FULL]


@parametrize_with_checks(["gsegkit-smp"], select=_select)
def test_contract(check):
    check()
