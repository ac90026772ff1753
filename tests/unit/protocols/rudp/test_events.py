"""Events are values: equal by content, never changed."""

import dataclasses
import typing

import pytest

from opnode.protocols.rudp import events


def test_every_event_is_a_frozen_value_without_a_dictionary():
    for kind in typing.get_args(events.Event):
        names = [field.name for field in dataclasses.fields(kind)]
        event = kind(*range(len(names)))
        assert event == kind(*range(len(names)))
        assert not hasattr(event, "__dict__")
        if not names:
            continue
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(event, names[0], None)
