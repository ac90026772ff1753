"""The Noise handshake ``Noise_IK_25519_AESGCM_SHA256``, with an optional PSK.

Owns the two messages of the IK pattern (revision 34 of the Noise specification,
sections 5, 7.5 and 9) and the keys that come out of them. Refuses to know who the
static keys belong to, what a payload means, and how messages travel: that is the
introductions' business. With a pre-shared key the pattern is ``IKpsk2``.

A failed read leaves a handshake as it was, so that a forged answer does not end an
attempt whose genuine answer is still on its way (``docs/protocols/noise.md`` N-6).
"""

import enum
from typing import Final, NoReturn

from opnode.core.crypto import (
    AeadError,
    StaticKey,
    TransportKeys,
    hkdf2,
    hkdf3,
    new_aead,
    sha256,
)
from opnode.core.errors import LocalProtocolError, RemoteProtocolError

KEY_LENGTH: Final = 32
TAG_LENGTH: Final = 16
MAX_MESSAGE: Final = 65_535
"""Bytes of the longest Noise message (Noise section 3)."""
MESSAGE_1_OVERHEAD: Final = KEY_LENGTH + KEY_LENGTH + TAG_LENGTH + TAG_LENGTH
"""Bytes that message 1 adds to its payload: ephemeral, sealed static, tag."""
MESSAGE_2_OVERHEAD: Final = KEY_LENGTH + TAG_LENGTH
"""Bytes that message 2 adds to its payload: ephemeral, tag."""

_IK_NAME: Final = b"Noise_IK_25519_AESGCM_SHA256"
_IKPSK2_NAME: Final = b"Noise_IKpsk2_25519_AESGCM_SHA256"
_HASH_LENGTH: Final = 32
_FIRST_NONCE: Final = bytes(12)


class NoiseInitiator:
    """The caller's half: writes message 1, reads message 2."""

    __slots__ = (
        "_ephemeral",
        "_keys",
        "_phase",
        "_psk",
        "_remote_static",
        "_static",
        "_symmetric",
    )

    def __init__(
        self,
        static: StaticKey,
        remote_static: bytes,
        *,
        ephemeral: StaticKey,
        prologue: bytes = b"",
        psk: bytes | None = None,
    ) -> None:
        """Prepare a handshake with the holder of a static key.

        Args:
            static: Our own long-lived key.
            remote_static: 32-byte public key of the responder.
            ephemeral: A fresh key; using one twice ends forward secrecy.
            prologue: Bytes that both ends must agree on.
            psk: 32-byte pre-shared key; makes the pattern IKpsk2.

        Raises:
            LocalProtocolError: A key has the wrong length.
        """
        _require_key("remote static key", remote_static)
        self._static = static
        self._remote_static = remote_static
        self._ephemeral = ephemeral
        self._psk = psk
        self._symmetric = _start(prologue, remote_static, psk)
        self._phase = _Phase.FIRST_MESSAGE
        self._keys: TransportKeys | None = None

    def write_message_1(self, payload: bytes) -> bytes:
        """Return message 1 (``e, es, s, ss``) around ``payload``.

        Raises:
            LocalProtocolError: Written before, or the payload is too long.
            RemoteProtocolError: The remote static key is a low-order point.
        """
        _require_phase(self._phase, _Phase.FIRST_MESSAGE, "write message 1")
        _require_room(payload, MESSAGE_1_OVERHEAD)
        state = self._symmetric.copy()
        state.mix_ephemeral(self._ephemeral.public, with_psk=self._psk is not None)
        state.mix_key(_exchange(self._ephemeral, self._remote_static))
        sealed_static = state.encrypt_and_hash(self._static.public)
        state.mix_key(_exchange(self._static, self._remote_static))
        sealed_payload = state.encrypt_and_hash(payload)
        self._symmetric = state
        self._phase = _Phase.SECOND_MESSAGE
        return self._ephemeral.public + sealed_static + sealed_payload

    def read_message_2_untrusted(self, data: bytes) -> bytes:
        """Return the payload of message 2 (``e, ee, se[, psk]``).

        Raises:
            LocalProtocolError: Message 1 was not written, or message 2 was read before.
            RemoteProtocolError: ``data`` is no answer to our message 1; the handshake
                is unchanged and another answer may be tried.
        """
        _require_phase(self._phase, _Phase.SECOND_MESSAGE, "read message 2")
        _require_length(data, MESSAGE_2_OVERHEAD, "message 2")
        state = self._symmetric.copy()
        remote_ephemeral = data[:KEY_LENGTH]
        state.mix_ephemeral(remote_ephemeral, with_psk=self._psk is not None)
        state.mix_key(_exchange(self._ephemeral, remote_ephemeral))
        state.mix_key(_exchange(self._static, remote_ephemeral))
        if self._psk is not None:
            state.mix_key_and_hash(self._psk)
        payload = state.decrypt_and_hash(data[KEY_LENGTH:], "message 2 payload")
        self._phase = _Phase.DONE
        initiator_key, responder_key = state.split()
        self._keys = TransportKeys(
            send=initiator_key, receive=responder_key, handshake_hash=state.digest
        )
        return payload

    @property
    def keys(self) -> TransportKeys:
        """The transport keys; LocalProtocolError before message 2 was read."""
        return self._keys or _too_early("transport keys")


class NoiseResponder:
    """The callee's half: reads message 1, writes message 2."""

    __slots__ = (
        "_ephemeral",
        "_keys",
        "_phase",
        "_psk",
        "_remote_ephemeral",
        "_remote_static",
        "_static",
        "_symmetric",
    )

    def __init__(
        self,
        static: StaticKey,
        *,
        ephemeral: StaticKey,
        prologue: bytes = b"",
        psk: bytes | None = None,
    ) -> None:
        """Prepare to answer one handshake; the arguments are the initiator's.

        Raises:
            LocalProtocolError: The pre-shared key has the wrong length.
        """
        self._static = static
        self._ephemeral = ephemeral
        self._psk = psk
        self._symmetric = _start(prologue, static.public, psk)
        self._phase = _Phase.FIRST_MESSAGE
        self._remote_static: bytes | None = None
        self._remote_ephemeral = b""
        self._keys: TransportKeys | None = None

    def read_message_1_untrusted(self, data: bytes) -> bytes:
        """Return the payload of message 1 (``e, es, s, ss``).

        The sender holds the private half of ``remote_static`` unless our own static
        key was stolen (Noise section 7.7, sender property 1), and may be replaying
        what somebody else recorded. Only the first transport message rules both out.

        Raises:
            LocalProtocolError: Message 1 was read before.
            RemoteProtocolError: ``data`` is not sealed to our static key, prologue and
                pre-shared key; the handshake is unchanged.
        """
        _require_phase(self._phase, _Phase.FIRST_MESSAGE, "read message 1")
        _require_length(data, MESSAGE_1_OVERHEAD, "message 1")
        static_end = KEY_LENGTH + KEY_LENGTH + TAG_LENGTH
        state = self._symmetric.copy()
        remote_ephemeral = data[:KEY_LENGTH]
        state.mix_ephemeral(remote_ephemeral, with_psk=self._psk is not None)
        state.mix_key(_exchange(self._static, remote_ephemeral))
        remote_static = state.decrypt_and_hash(
            data[KEY_LENGTH:static_end], "message 1 static key"
        )
        state.mix_key(_exchange(self._static, remote_static))
        payload = state.decrypt_and_hash(data[static_end:], "message 1 payload")
        self._remote_ephemeral = remote_ephemeral
        self._remote_static = remote_static
        self._symmetric = state
        self._phase = _Phase.SECOND_MESSAGE
        return payload

    @property
    def remote_static(self) -> bytes:
        """The initiator's static key; LocalProtocolError before message 1 was read."""
        return self._remote_static or _too_early("remote static key")

    def write_message_2(self, payload: bytes) -> bytes:
        """Return message 2 (``e, ee, se[, psk]``) around ``payload``.

        Raises:
            LocalProtocolError: Not this message's turn, or the payload is too long.
            RemoteProtocolError: The initiator sent a low-order point.
        """
        _require_phase(self._phase, _Phase.SECOND_MESSAGE, "write message 2")
        _require_room(payload, MESSAGE_2_OVERHEAD)
        state = self._symmetric.copy()
        state.mix_ephemeral(self._ephemeral.public, with_psk=self._psk is not None)
        state.mix_key(_exchange(self._ephemeral, self._remote_ephemeral))
        state.mix_key(_exchange(self._ephemeral, self.remote_static))
        if self._psk is not None:
            state.mix_key_and_hash(self._psk)
        sealed_payload = state.encrypt_and_hash(payload)
        self._phase = _Phase.DONE
        initiator_key, responder_key = state.split()
        self._keys = TransportKeys(
            send=responder_key, receive=initiator_key, handshake_hash=state.digest
        )
        return self._ephemeral.public + sealed_payload

    @property
    def keys(self) -> TransportKeys:
        """The transport keys; LocalProtocolError before message 2 was written."""
        return self._keys or _too_early("transport keys")


class _Phase(enum.Enum):
    FIRST_MESSAGE = "message 1"
    SECOND_MESSAGE = "message 2"
    DONE = "nothing more"


class _Symmetric:
    """The SymmetricState of Noise section 5.2, for IK's needs.

    In IK every key seals exactly one piece, so the nonce is always zero. A key is
    therefore dropped by its first use; a second use would fail loudly.
    """

    __slots__ = ("_chaining_key", "_key", "digest")

    def __init__(self, chaining_key: bytes, digest: bytes, key: bytes | None) -> None:
        self._chaining_key = chaining_key
        self._key = key
        self.digest = digest

    def copy(self) -> "_Symmetric":
        return _Symmetric(self._chaining_key, self.digest, self._key)

    def mix_hash(self, data: bytes) -> None:
        self.digest = sha256(self.digest, data)

    def mix_key(self, material: bytes) -> None:
        self._chaining_key, self._key = hkdf2(self._chaining_key, material)

    def mix_key_and_hash(self, psk: bytes) -> None:
        self._chaining_key, digest, self._key = hkdf3(self._chaining_key, psk)
        self.mix_hash(digest)

    def mix_ephemeral(self, public: bytes, *, with_psk: bool) -> None:
        self.mix_hash(public)
        if with_psk:
            # In PSK patterns the "e" token also enters the key (Noise section 9.2).
            self.mix_key(public)

    def encrypt_and_hash(self, plain: bytes) -> bytes:
        sealed = new_aead(self._take_key()).encrypt(_FIRST_NONCE, plain, self.digest)
        self.mix_hash(sealed)
        return sealed

    def decrypt_and_hash(self, sealed: bytes, what: str) -> bytes:
        try:
            plain = new_aead(self._take_key()).decrypt(
                _FIRST_NONCE, sealed, self.digest
            )
        except AeadError:
            raise RemoteProtocolError(
                f"{what}: authentication failed on {len(sealed)} bytes"
            ) from None
        self.mix_hash(sealed)
        return plain

    def split(self) -> tuple[bytes, bytes]:
        """Return the initiator's and the responder's sending key."""
        return hkdf2(self._chaining_key, b"")

    def _take_key(self) -> bytes:
        key, self._key = self._key, None
        assert key is not None, "every IK token that seals is preceded by a mix_key"
        return key


def _start(prologue: bytes, responder_static: bytes, psk: bytes | None) -> _Symmetric:
    if psk is not None:
        _require_key("pre-shared key", psk)
    name = _IK_NAME if psk is None else _IKPSK2_NAME
    first = name.ljust(_HASH_LENGTH, b"\0")
    state = _Symmetric(first, first, None)
    state.mix_hash(prologue)
    state.mix_hash(responder_static)
    return state


def _exchange(ours: StaticKey, theirs: bytes) -> bytes:
    try:
        return ours.exchange(theirs)
    except ValueError:
        raise RemoteProtocolError(
            "remote public key is a low-order point, expected a point of order > 8"
        ) from None


def _require_key(what: str, key: bytes) -> None:
    if len(key) != KEY_LENGTH:
        raise LocalProtocolError(
            f"{what}: found {len(key)} bytes, expected {KEY_LENGTH}"
        )


def _require_phase(found: _Phase, expected: _Phase, action: str) -> None:
    if found is not expected:
        raise LocalProtocolError(f"cannot {action}: {found.value} is due")


def _require_room(payload: bytes, overhead: int) -> None:
    if len(payload) > MAX_MESSAGE - overhead:
        raise LocalProtocolError(
            f"payload: found {len(payload)} bytes, "
            f"expected at most {MAX_MESSAGE - overhead}"
        )


def _require_length(data: bytes, least: int, what: str) -> None:
    if not least <= len(data) <= MAX_MESSAGE:
        raise RemoteProtocolError(
            f"{what}: found {len(data)} bytes, expected {least} to {MAX_MESSAGE}"
        )


def _too_early(what: str) -> NoReturn:
    raise LocalProtocolError(f"{what}: not known before the handshake got there")
