"""How long things last: hours, the ways of datagrams, the memory of NATs."""

from typing import Final

HOUR_S: Final = 3600.0
DAY_S: Final = 86_400.0

LATENCY_S: Final = (0.01, 0.12)
"""One way, uniform: neighbours in a city up to the other side of the globe."""

NAT_TIMERS_S: Final = (30.0, 60.0, 180.0)
"""How long a NAT remembers a silent binding, a third of the homes each: RFC 4787 asks
for 120 s (REQ-5), the strictest of 34 home gateways took 30 s (Hätönen et al., IMC
2010)."""
