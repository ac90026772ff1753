"""A socket that the DHT benchmark kills is as silent as a machine without power."""

import select
import socket

import pytest

from benchmarks.black_hole import black_holes

pytestmark = pytest.mark.integration

SOON_S = 0.2


def bound():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


def is_readable(sock):
    return bool(select.select([sock], [], [], SOON_S)[0])


def test_a_black_hole_hears_nothing_says_nothing_and_refuses_nothing():
    with bound() as dead, bound() as alive:
        address = dead.getsockname()
        # Only a connected socket is told of ICMP errors.
        alive.connect(address)
        alive.send(b"before")
        assert dead.recv(100) == b"before"
        with black_holes({address[1]}) as found:
            assert found == 1
            alive.send(b"after")
            assert not is_readable(dead)
            with pytest.raises(OSError):  # noqa: PT011 - whatever the kernel calls it
                dead.sendto(b"good-bye", alive.getsockname())
            dead.close()
            alive.send(b"after its end")
            assert not is_readable(alive), "a closed port would be told of"
        alive.send(b"to a closed port")
        with pytest.raises(ConnectionRefusedError):
            alive.recv(100)


def test_other_sockets_of_the_process_go_on():
    with (
        bound() as dead,
        bound() as alive,
        bound() as other,
        black_holes({dead.getsockname()[1], 1}) as found,
    ):
        assert found == 1
        alive.sendto(b"hello", other.getsockname())
        assert other.recv(100) == b"hello"
