"""What every test shares: how long and how reproducibly hypothesis searches.

Owns: the hypothesis profiles. ``pytest --hypothesis-profile=long tests/property/`` runs
the stateful tests of RUDP with 10,000 examples, about ten minutes. Refuses to know: any
fixture of a single layer; those live beside the tests that use them.
"""

from __future__ import annotations

import os

from hypothesis import settings

# A shared machine makes single examples slow, which is no fault of the code under test.
settings.register_profile("local", deadline=None)
# The gate must give the same verdict twice for the same tree.
settings.register_profile("gate", deadline=None, derandomize=True, print_blob=True)
# By hand, after a change of a protocol: tests that ask for it take their number of
# examples from here.
settings.register_profile("long", deadline=None, max_examples=10_000)
settings.load_profile("gate" if os.environ.get("CI") else "local")
