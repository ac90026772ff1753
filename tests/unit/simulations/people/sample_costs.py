"""Costs as they were measured once, for tests that need some."""

from simulations.people.costs import Cost, Costs

COSTS = Costs(
    ping=Cost(121.0, 2.0),
    register=Cost(236.0, 2.0),
    store=Cost(613.0, 2.0),
    find_value=Cost(1900.0, 2.0),
    find_node=Cost(1016.0, 2.0),
    introduce=Cost(1100.0, 2.1),
    offer=Cost(1600.0, 2.0),
    rest_bytes_per_s=3.8,
    rest_packets_per_s=0.02,
    delegated_bytes_per_s=18.0,
    check_per_contact_per_s=0.0008,
    introductions_per_call=1.96,
)
