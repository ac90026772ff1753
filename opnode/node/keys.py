"""The keys a node runs with: loaded from its data directory, or made for one run."""

from dataclasses import dataclass
from typing import Final

from opnode.core.crypto import SigningKey, StaticKey
from opnode.core.peerfile import Identity, Location, certify_location
from opnode.node.data_directory import DataDirectory

CERTIFICATE_LIFETIME_S: Final = 90 * 86_400
"""Ninety days bound what a stolen device is good for."""

CERTIFICATE_RENEWAL_S: Final = 30 * 86_400
"""A certificate is renewed at every start, and monthly while the node runs."""

NO_COMMITMENT: Final = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeKeys:
    """A node's key, and the identity and location that live on it, if any."""

    node: SigningKey
    identity: Identity | None
    location: Location | None


def load_keys(
    directory: DataDirectory, *, has_identity: bool, name: str, wall_now: float
) -> NodeKeys:
    """Load the keys, creating those that are missing.

    Raises:
        UnreadableKey: a key file is there but cannot be used; it is left as it is.
    """
    node = directory.node_key()
    if not has_identity:
        return NodeKeys(node=node, identity=None, location=None)
    device = directory.location_keys()
    identity = directory.identity()
    location = _certified(
        identity, device.signing, device.static, name=name, wall_now=wall_now
    )
    return NodeKeys(node=node, identity=identity, location=location)


def renew_certificate(keys: NodeKeys, *, wall_now: float) -> Location:
    """The same location under a fresh certificate.

    A node that runs for months would otherwise become unfindable with its first one.
    """
    assert keys.identity is not None
    assert keys.location is not None
    old = keys.location
    return _certified(
        keys.identity,
        old.signing,
        old.static,
        name=old.certificate.name,
        wall_now=wall_now,
    )


def make_keys(*, has_identity: bool, name: str, wall_now: float) -> NodeKeys:
    """Fresh keys that live as long as the node."""
    node = SigningKey.generate()
    if not has_identity:
        return NodeKeys(node=node, identity=None, location=None)
    identity = Identity(signing=SigningKey.generate(), commitment=NO_COMMITMENT)
    location = _certified(
        identity,
        SigningKey.generate(),
        StaticKey.generate(),
        name=name,
        wall_now=wall_now,
    )
    return NodeKeys(node=node, identity=identity, location=location)


def _certified(
    identity: Identity,
    signing: SigningKey,
    static: StaticKey,
    *,
    name: str,
    wall_now: float,
) -> Location:
    return certify_location(
        identity,
        signing=signing,
        static=static,
        name=name,
        wall_now=wall_now,
        lifetime_s=CERTIFICATE_LIFETIME_S,
    )
