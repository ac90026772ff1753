"""What a result says of its origin."""

import re

import pytest

from opnode.testing import provenance


def test_the_commit_is_a_revision_with_or_without_changes():
    assert re.fullmatch(r"([0-9a-f]{12}(\+changes)?)?", provenance.commit())


def test_outside_of_a_repository_there_is_no_commit(monkeypatch, tmp_path):
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    assert provenance.commit() == ""


@pytest.mark.parametrize("name", ["opnode", "python", "trio"])
def test_the_versions_name_what_runs(name):
    assert provenance.versions()[name]
