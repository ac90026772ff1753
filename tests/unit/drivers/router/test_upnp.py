import pytest
import trio

from opnode.core.errors import MappingRefused
from opnode.drivers.router import upnp
from opnode.drivers.router.home_router import HomeRouter
from opnode.drivers.router.mappings import MappingMethod
from opnode.drivers.router.upnp import UpnpControl

OURS = "192.168.1.2"


class FakeRouter:
    """What miniupnpc shows of a router."""

    def __init__(self):
        self.lanaddr = OURS
        self.external = "203.0.113.1"
        self.taken = set()
        self.knows_leases = True
        self.is_there = True
        self.added = []
        self.deleted = []
        self.searches = 0

    def discover(self):
        self.searches += 1
        if not self.is_there:
            raise Exception("Success")  # noqa: TRY002 - as the library does

    def selectigd(self):
        return "http://192.168.1.1/"

    def externalipaddress(self):
        return self.external

    def addportmapping(self, port, protocol, host, internal, *rest):
        _, _, lease_s = rest
        if port in self.taken:
            raise Exception("ConflictInMappingEntry")  # noqa: TRY002 - as above
        if lease_s and not self.knows_leases:
            raise Exception("OnlyPermanentLeasesSupported")  # noqa: TRY002 - as above
        self.added.append((port, protocol, host, internal, lease_s))
        return True

    def deleteportmapping(self, port, protocol):
        self.deleted.append((port, protocol))
        return True


@pytest.fixture
def router(monkeypatch):
    router = FakeRouter()

    class Library:
        UPnP = staticmethod(lambda **_: router)

    monkeypatch.setattr(upnp, "miniupnpc", Library)
    return router


@pytest.fixture
def control():
    return UpnpControl(HomeRouter("192.168.1.1", OURS), lambda below: 5000 % below)


async def test_the_wanted_port_is_asked_for_with_its_lease(router, control):
    mapped = await control.map(4000, 4000, 1200)
    assert router.added == [(4000, "UDP", OURS, 4000, 1200)]
    assert mapped.external == ("203.0.113.1", 4000)
    assert (mapped.method, mapped.lifetime_s) == (MappingMethod.UPNP, 1200)
    await control.unmap(mapped)
    assert router.deleted == [(4000, "UDP")]
    assert router.searches == 1


async def test_a_port_that_is_taken_is_replaced_by_another(router, control):
    router.taken.add(4000)
    mapped = await control.map(4000, 4000, 1200)
    assert mapped.external.port == 1024 + 5000
    assert mapped.internal_port == 4000


async def test_a_router_without_leases_maps_for_ever(router, control):
    router.knows_leases = False
    assert (await control.map(4000, 4000, 1200)).lifetime_s == 0


async def test_a_router_that_refuses_every_port_is_told(router, control):
    router.taken |= {4000, 6024}
    with pytest.raises(MappingRefused, match="refuses by UPnP"):
        await control.map(4000, 4000, 1200)


async def test_where_no_router_answers_that_is_told(router, control):
    router.is_there = False
    with pytest.raises(MappingRefused, match="no router answers"):
        await control.map(4000, 4000, 1200)


async def test_a_router_in_another_network_is_not_used(router, control):
    router.lanaddr = "10.0.0.2"
    with pytest.raises(MappingRefused, match="another network"):
        await control.map(4000, 4000, 1200)


@pytest.mark.parametrize("external", [None, "", "junk", "::1"])
async def test_a_router_without_an_address_is_of_no_use(router, control, external):
    router.external = external
    with pytest.raises(MappingRefused, match="no external address"):
        await control.map(4000, 4000, 1200)


async def test_a_mapping_that_cannot_be_returned_is_left(router, control):
    mapped = await control.map(4000, 4000, 1200)
    control._found = None
    router.is_there = False
    await control.unmap(mapped)
    assert router.deleted == []


async def test_a_router_that_fails_is_searched_for_again(router, control):
    await control.map(4000, 4000, 1200)
    router.taken |= {4000, 6024}
    with pytest.raises(MappingRefused):
        await control.map(4000, 4000, 1200)
    router.taken.clear()
    await control.map(4000, 4000, 1200)
    assert router.searches == 2


async def test_without_the_library_the_extra_is_named(monkeypatch, control):
    monkeypatch.setattr(upnp, "miniupnpc", None)
    with pytest.raises(MappingRefused, match=r"opnode\[upnp\]"):
        await control.map(4000, 4000, 1200)


async def test_a_library_that_hangs_holds_nobody_up(control, monkeypatch):
    release = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def hang(*_):
        trio.from_thread.run(release.wait, trio_token=token)

    monkeypatch.setattr(control, "_map", hang)
    with trio.move_on_after(0.05) as scope:
        await control.map(4000, 4000, 1200)
    assert scope.cancelled_caught
    release.set()
