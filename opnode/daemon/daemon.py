"""The daemon: a running node with its services and its control socket.

Owns the order in which they start, and the announcement that all are there. Refuses to
know how things are shown to people.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import trio

from opnode.core.ids import format_peer_id
from opnode.daemon.address_book import AddressBook
from opnode.daemon.contact_watch import ContactsChanged, watch_contacts
from opnode.daemon.control import ControlServer
from opnode.daemon.control_verbs import Daemon, Verbs
from opnode.daemon.peer_connections import PeerConnections
from opnode.daemon.services import AcceptPolicy, Ask, ServiceEvent, Services
from opnode.node.config import Role
from opnode.node.data_directory import DataDirectory, control_socket_path
from opnode.node.joining import JoinReport
from opnode.node.node import OverlayNode


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The node is in the overlay and can be found; a seed has no ``peer_id``.

    ``invite`` is ``None`` at a leaf, which nobody joins through.
    """

    endpoint: str
    invite: str | None
    node_id: str
    peer_id: str | None
    contacts: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RoleChanged:
    """The node found out that it is a server, or a leaf; ``invite`` as in `Ready`."""

    role: Role
    invite: str | None


DaemonEvent: TypeAlias = (
    JoinReport | Ready | RoleChanged | ContactsChanged | ServiceEvent
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonSettings:
    """What a daemon is told beyond its node's configuration.

    ``ask`` is ``None`` when there is no terminal to put questions to.
    """

    inbox: Path
    policy: AcceptPolicy
    notify: Callable[[DaemonEvent], None]
    ask: Ask | None
    rng: random.Random


async def run_daemon(
    node: OverlayNode, directory: DataDirectory, settings: DaemonSettings
) -> None:
    """Serve an end-user node until it is told to stop, or cancelled.

    Raises:
        StorageError: the address book is damaged, or the control socket cannot be made.
    """
    book = AddressBook(directory.address_book_path)
    services = Services(
        inbox=settings.inbox,
        policy=settings.policy,
        book=book,
        notify=settings.notify,
        ask=settings.ask,
    )
    services.drop_stale_parts()
    connections = PeerConnections(node, services.serve_channel)
    async with trio.open_nursery() as nursery:
        daemon = Daemon(
            node=node,
            book=book,
            connections=connections,
            services=services,
            stop=nursery.cancel_scope.cancel,
            rng=settings.rng,
            records=directory.records_path,
        )
        await nursery.start(connections.run)
        await _serve_control(nursery, daemon, directory)
        nursery.start_soon(_report_joining, node, settings.notify)
        nursery.start_soon(_report_roles, node, settings.notify)
        nursery.start_soon(watch_contacts, node, settings.notify)
        started_at = trio.current_time()
        await node.wait_joined()
        await node.wait_published()
        settings.notify(_ready(node, trio.current_time() - started_at))


async def run_seed(
    node: OverlayNode, directory: DataDirectory, settings: DaemonSettings
) -> None:
    """Serve a seed until it is told to stop, or cancelled.

    Raises:
        StorageError: the control socket cannot be made.
    """
    async with trio.open_nursery() as nursery:
        daemon = Daemon(
            node=node,
            book=AddressBook(None),
            connections=None,
            services=None,
            stop=nursery.cancel_scope.cancel,
            rng=settings.rng,
            records=directory.records_path,
        )
        await _serve_control(nursery, daemon, directory)
        nursery.start_soon(_report_joining, node, settings.notify)
        nursery.start_soon(_report_roles, node, settings.notify)
        nursery.start_soon(watch_contacts, node, settings.notify)
        started_at = trio.current_time()
        await node.wait_joined()
        settings.notify(_ready(node, trio.current_time() - started_at))


async def _serve_control(
    nursery: trio.Nursery, daemon: Daemon, directory: DataDirectory
) -> None:
    server = ControlServer(Verbs(daemon))
    await nursery.start(server.run, control_socket_path(directory.path))


async def _report_joining(
    node: OverlayNode, notify: Callable[[DaemonEvent], None]
) -> None:
    async for report in node.reports:
        notify(report)
    await trio.sleep_forever()


async def _report_roles(
    node: OverlayNode, notify: Callable[[DaemonEvent], None]
) -> None:
    async for role in node.role_changes:
        notify(RoleChanged(role, node.invite()))


def _ready(node: OverlayNode, seconds: float) -> Ready:
    statistics = node.statistics()
    peer_id = statistics.peer_id
    return Ready(
        endpoint=str(node.endpoint),
        invite=node.invite(),
        node_id=node.node_id.hex(),
        peer_id=None if peer_id is None else format_peer_id(peer_id),
        contacts=statistics.contacts,
        seconds=round(seconds, 3),
    )
