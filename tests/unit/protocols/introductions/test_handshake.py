"""The handshake that introductions ask for is the one that the Noise module offers."""

from opnode.core.crypto import StaticKey
from opnode.protocols.introductions.handshake import Handshakes
from opnode.protocols.noise import NoiseInitiator, NoiseResponder


def test_the_noise_roles_fit_as_they_are():
    noise = Handshakes(initiator=NoiseInitiator, responder=NoiseResponder)
    caller, callee = StaticKey.generate(), StaticKey.generate()
    initiator = noise.initiator(
        caller, callee.public, ephemeral=StaticKey.generate(), prologue=b"p"
    )
    responder = noise.responder(callee, ephemeral=StaticKey.generate(), prologue=b"p")
    first = initiator.write_message_1(b"offer")
    assert responder.read_message_1_untrusted(first) == b"offer"
    assert responder.remote_static == caller.public
    second = responder.write_message_2(b"answer")
    assert initiator.read_message_2_untrusted(second) == b"answer"
    assert initiator.keys.send == responder.keys.receive
