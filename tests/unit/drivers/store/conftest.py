"""An open store for the tests of this directory."""

import pytest

from opnode.drivers.store import RecordStore


@pytest.fixture
def store():
    opened = RecordStore()
    yield opened
    opened.close()
