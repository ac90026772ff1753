"""The keys that seal and open packets; knows neither frames nor paths."""

from collections.abc import Callable

from opnode.core.crypto import TransportKeys, new_aead

Seal = Callable[[bytes, bytes, bytes | None], bytes]
SealInto = Callable[[bytes, memoryview, bytes | None, memoryview], int]


class PacketKeys:
    """What protects packets now.

    ``encrypt`` and ``send_phase`` belong together, and so do ``decrypt`` and
    ``receive_phase``: the phases are 0 or ``KEY_PHASE_FLAG``, as they stand in the
    header's last field. ``encrypt_into`` and ``decrypt_into`` do the same to buffers of
    the caller.
    """

    __slots__ = (
        "decrypt",
        "decrypt_into",
        "encrypt",
        "encrypt_into",
        "receive_phase",
        "send_phase",
    )

    def __init__(self, keys: TransportKeys) -> None:
        """Start with the keys of the handshake."""
        sealing, opening = new_aead(keys.send), new_aead(keys.receive)
        self.encrypt: Seal = sealing.encrypt
        self.encrypt_into: SealInto = sealing.encrypt_into
        self.decrypt: Seal = opening.decrypt
        self.decrypt_into: SealInto = opening.decrypt_into
        self.send_phase = 0
        self.receive_phase = 0

    def open_other_phase(
        self,
        number: int,  # noqa: ARG002 - there is one key for all numbers so far
        nonce: bytes,  # noqa: ARG002 - nothing can be opened
        sealed: bytes,  # noqa: ARG002 - nothing can be opened
    ) -> bytes | None:
        """Open a packet whose phase bit is not ``receive_phase``; None if forged."""
        return None
