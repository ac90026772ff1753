"""Limits of one lookup, each with its reason."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupConfig:
    """Limits of one lookup.

    Attributes:
        k: the closest nodes it ends with (Kademlia §2.3).
        paths: node-disjoint paths (S/Kademlia §4.4): with 30 % of the nodes lying, one
            of four starts at liars only in 1 % of the lookups.
        alpha: queries in flight at the start; one slow node then costs nothing.
        alpha_most: ... and at most, when contacts turn slow or fail.
        region_alpha: ... inside the region, where all members are to be asked anyway:
            a region's worth, 24 kB at once at the very most.
        queries: handed out in all; a region of 20 with 100 strangers ground into it is
            read to its end, and endless liars cost no more.
        path_candidates: remembered for each path: several times what an honest lookup
            meets. One that liars filled takes nothing from the others.
        subnet_cap: members of one /24 or /48 that are asked; public addresses only.
    """

    k: int = 20
    paths: int = 4
    alpha: int = 3
    alpha_most: int = 12
    region_alpha: int = 20
    queries: int = 256
    path_candidates: int = 256
    subnet_cap: int = 2
