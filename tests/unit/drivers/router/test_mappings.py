from opnode.core.addresses import Endpoint
from opnode.drivers.router.mappings import Mapped, MappingMethod


def test_a_mapping_names_how_and_where_it_was_made():
    mapped = Mapped(
        method=MappingMethod.PCP,
        router="192.168.1.1",
        internal_port=4000,
        external=Endpoint("203.0.113.1", 5000),
        lifetime_s=600,
    )
    assert [method.value for method in MappingMethod] == ["PCP", "NAT-PMP", "UPnP"]
    assert "203.0.113.1" in repr(mapped)
