"""A serverless overlay node: find people by identity and talk to them.

    async with opnode.open_node(opnode.NodeConfig(bootstrap=entries)) as node:
        connection = await node.connect(peer_id)
        channel = await connection.open_channel()

Map of the packages, each importing only those to its right:

    cli -> daemon -> node -> drivers -> protocols -> core

``core`` holds values, ``protocols`` sans-I/O state machines, ``drivers`` everything
that touches the world, ``node`` the composition, ``daemon`` what ``opnode up`` adds
to it, ``cli`` the command line, ``testing`` the virtual network. The names below are
loaded on first use, so that ``opnode --version`` does not pay for sockets.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opnode.core.addresses import Endpoint
    from opnode.core.errors import (
        IntroductionRefused,
        OpnodeError,
        PeerUnreachable,
        RecordNotFound,
    )
    from opnode.core.ids import PeerId, format_peer_id, parse_peer_id
    from opnode.core.peerfile import PeerFile, Presence
    from opnode.drivers.channel import Channel
    from opnode.drivers.connections import Connection
    from opnode.drivers.messages import MessageChannel
    from opnode.node.bootstrap import BootstrapEntry, read_seeds_file
    from opnode.node.config import NodeConfig, Role
    from opnode.node.node import OverlayNode, open_node
    from opnode.node.peer_view import PeerView
    from opnode.node.peer_watch import PeerWatch, PresenceChange, PresenceEvent
    from opnode.version import __version__

__all__ = [
    "BootstrapEntry",
    "Channel",
    "Connection",
    "Endpoint",
    "IntroductionRefused",
    "MessageChannel",
    "NodeConfig",
    "OpnodeError",
    "OverlayNode",
    "PeerFile",
    "PeerId",
    "PeerUnreachable",
    "PeerView",
    "PeerWatch",
    "Presence",
    "PresenceChange",
    "PresenceEvent",
    "RecordNotFound",
    "Role",
    "__version__",
    "format_peer_id",
    "open_node",
    "parse_peer_id",
    "read_seeds_file",
]

_HOMES = {
    "BootstrapEntry": "opnode.node.bootstrap",
    "Channel": "opnode.drivers.channel",
    "Connection": "opnode.drivers.connections",
    "Endpoint": "opnode.core.addresses",
    "MessageChannel": "opnode.drivers.messages",
    "NodeConfig": "opnode.node.config",
    "IntroductionRefused": "opnode.core.errors",
    "OpnodeError": "opnode.core.errors",
    "PeerFile": "opnode.core.peerfile",
    "PeerUnreachable": "opnode.core.errors",
    "Presence": "opnode.core.peerfile",
    "RecordNotFound": "opnode.core.errors",
    "OverlayNode": "opnode.node.node",
    "PeerId": "opnode.core.ids",
    "PeerView": "opnode.node.peer_view",
    "PeerWatch": "opnode.node.peer_watch",
    "PresenceChange": "opnode.node.peer_watch",
    "PresenceEvent": "opnode.node.peer_watch",
    "Role": "opnode.node.config",
    "__version__": "opnode.version",
    "format_peer_id": "opnode.core.ids",
    "open_node": "opnode.node.node",
    "parse_peer_id": "opnode.core.ids",
    "read_seeds_file": "opnode.node.bootstrap",
}


def __getattr__(name: str) -> object:
    """Load a public name from its module on first use (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'opnode' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
