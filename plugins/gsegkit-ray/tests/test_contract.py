import pytest

from gsegkit.testing import parametrize_with_checks

pytestmark = pytest.mark.timeout(1800)  # a cluster starts some twenty processes for each run


@parametrize_with_checks(["gsegkit-ray"])
def test_contract(check):
    check()
