"""Parity with the official code: every test here needs it."""

import pytest

from tests.parity import oracle


def pytest_collection_modifyitems(items):
    if oracle.is_installed():
        return
    skip = pytest.mark.skip(reason=oracle.MISSING)
    for item in items:
        if "tests/parity" in item.path.as_posix():
            item.add_marker(skip)


@pytest.fixture(scope="module", autouse=True)
def _as_users_compile(fully_optimized):
    """The official code is compared with the program that users run, so it is compiled with default options."""
