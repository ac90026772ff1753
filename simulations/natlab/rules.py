"""A NAT and the public segment as nftables rules.

Owns the text of the rules. Refuses to know namespaces and how rules are loaded.

Linux keeps a source port where it can, which hides mistakes: a mapping here has a port
computed from the inner address, so it is endpoint-independent and never the same port.
"""

from typing import Final

from simulations.natlab.plan import Line
from simulations.natlab.spec import Nat, NatType

FIRST_PORT: Final = 30_000
PORTS: Final = 4096

# Through a map, as the kernel would take the number itself with its bytes swapped.
_NTH_PORT: Final = (
    f"map {{ {', '.join(f'{n} : {FIRST_PORT + n}' for n in range(PORTS))} }}"
)
_OUTER_PORT: Final = {
    NatType.SYMMETRIC: "1024-65535 fully-random",
    NatType.SEQUENTIAL: f"numgen inc mod {PORTS} {_NTH_PORT}",
}
_STABLE_PORT: Final = f"jhash ip saddr . udp sport mod {PORTS} seed 0x0f0d {_NTH_PORT}"


def nat_rules(nat: Nat, line: Line, lan: str) -> str:
    """The rules of a NAT, loaded over those that it had.

    Args:
        nat: how it behaves.
        line: its outer side.
        lan: the network behind it.
    """
    return f"""
table ip natlab
delete table ip natlab
table ip natlab {{
  map inner {{
    type inet_service : ipv4_addr . inet_service
    size 65535; flags dynamic,timeout; timeout {nat.binding_s}s
  }}
  set heard {{
    type inet_service . ipv4_addr
    size 65535; flags dynamic,timeout; timeout {nat.binding_s}s
  }}
  set taken {{
    type ipv4_addr . inet_service . ipv4_addr . inet_service
    size {nat.table_size or 65535}; flags dynamic,timeout; timeout {nat.binding_s}s
    gc-interval 1s
  }}
  chain inwards {{
    type nat hook prerouting priority dstnat
    {_inwards(nat, line)}
  }}
  chain outwards {{
    type nat hook postrouting priority srcnat
    {_outwards(nat, line, lan)}
  }}
  chain remember {{
    type filter hook postrouting priority 110
    {_remember(line)}
  }}
  chain pass {{
    type filter hook forward priority filter; policy drop
    {_pass(nat)}
  }}
  chain own {{
    type filter hook input priority filter
    # What nobody asked for must leave no trace: an entry would hold the port that a
    # host's own punch needs a moment later.
    iifname "lan" ip daddr != {line.address} accept
    meta l4proto {{ tcp, udp }} ct state new drop
  }}
}}
table ip6 natlab
delete table ip6 natlab
table ip6 natlab {{
  chain pass {{
    type filter hook forward priority filter; policy drop
    {"meta l4proto udp drop" if nat.type is NatType.BLOCKED else ""}
    ct state established,related accept
    icmpv6 type {{ destination-unreachable, packet-too-big, time-exceeded }} accept
    iifname "lan" accept
  }}
}}
"""


def _inwards(nat: Nat, line: Line) -> str:
    """To whom a packet without a connection of its own goes, if to anybody."""
    to_inner = "dnat ip to udp dport map @inner"
    rules = []
    if nat.type is NatType.FULL:
        rules.append(f'iifname "wan" meta l4proto udp {to_inner}')
    if nat.type is NatType.ADDRESS:
        rules.append(f'iifname "wan" udp dport . ip saddr @heard {to_inner}')
    if nat.hairpin:
        rules.append(
            f'iifname "lan" ip daddr {line.address} meta l4proto udp {to_inner}'
        )
    return "\n    ".join(rules)


def _outwards(nat: Nat, line: Line, lan: str) -> str:
    """Which port a new connection gets on the outer side."""
    port = _OUTER_PORT.get(nat.type, _STABLE_PORT)
    udp = f"snat to {line.address}:{port}"
    rules = [f'oifname "wan" meta l4proto udp {udp}', 'oifname "wan" masquerade']
    if nat.hairpin:
        rules.append(f'oifname "lan" ip saddr {lan} meta l4proto udp {udp}')
    return "\n    ".join(rules)


def _remember(line: Line) -> str:
    """Whose port it is and whom it spoke to, after the translation."""
    out = f"ip saddr {line.address} meta l4proto udp"
    return "\n    ".join(
        (
            f"{out} ct direction original update @inner "
            "{ udp sport : ct original ip saddr . ct original proto-src }",
            f"{out} ct direction reply update @inner "
            "{ udp sport : ct reply ip saddr . ct reply proto-src }",
            f"{out} update @heard {{ udp sport . ip daddr }}",
        )
    )


def _pass(nat: Nat) -> str:
    """Which packets go through, once they are translated inwards."""
    rules = ["ct state established,related accept", 'iifname "lan" accept']
    rules.append('iifname "wan" ct status dnat accept')
    if nat.table_size:
        # A set that is full takes no new element, and the rule does not match.
        outbound = "update @taken { ip saddr . udp sport . ip daddr . udp dport }"
        inbound = "update @taken { ip daddr . udp dport . ip saddr . udp sport }"
        rules = [
            f'iifname "lan" {outbound} accept',
            f'iifname "wan" ct state established {inbound} accept',
            f'iifname "wan" ct status dnat {inbound} accept',
            "meta l4proto udp drop",
            *rules,
        ]
    if nat.type is NatType.BLOCKED:
        rules.insert(0, "meta l4proto udp drop")
    return "\n    ".join(rules)


def net_rules(losses: dict[str, float], *, is_delayed: bool) -> str:
    """The rules of the public segment: it counts every pair of addresses, and loses.

    Args:
        losses: share of the packets lost by interface.
        is_delayed: whether packets pass through the delay line, and here twice.
    """
    lines = []
    for port, share in losses.items():
        drop = f"numgen random mod 10000 < {round(share * 10_000)} drop"
        lines += [f'iifname "{port}" {drop}', f'oifname "{port}" {drop}']
    once = 'oifname "delay" accept' if is_delayed else ""
    text = "\n    ".join(lines)
    return f"""
table inet natlab
delete table inet natlab
table inet natlab {{
  set flows {{
    type ipv4_addr . ipv4_addr . inet_proto
    size 65535; flags dynamic; counter
  }}
  set flows6 {{
    type ipv6_addr . ipv6_addr . inet_proto
    size 65535; flags dynamic; counter
  }}
  chain pass {{
    type filter hook forward priority filter
    {text}
    {once}
    update @flows {{ ip saddr . ip daddr . ip protocol }}
    update @flows6 {{ ip6 saddr . ip6 daddr . ip6 nexthdr }}
  }}
}}
"""
