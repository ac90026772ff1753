"""How long an hour and a day are, and the memory of NATs."""

from typing import Final

HOUR_S: Final = 3600.0
DAY_S: Final = 86_400.0

NAT_TIMERS_S: Final = (30.0, 60.0, 180.0)
"""How long a NAT remembers a silent binding, a third of the homes each: RFC 4787 asks
for 120 s (REQ-5), the strictest of 34 home gateways took 30 s (Hätönen et al., IMC
2010)."""
