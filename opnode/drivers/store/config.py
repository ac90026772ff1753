"""Limits of what a node holds for others."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """Limits of what a node holds for others.

    Attributes:
        max_records: about 100 MB of disk at the full record size.
        max_bytes: the same bound in bytes, of the records alone.
        bag_slots: owners of one kind under one key (architecture §4). Each kind has
            its own, so that claims, which anybody may make, leave a peer its place.
        group_records: records brought by one public /24 or /48: 1 % of all. A put goes
            to twenty nodes of the whole network, so honest neighbours bring a few.
        local_group_records: the same for a private or loopback network. A lab or a
            home lives in one of them, and no stranger has an address there.
        owner_records: records of one key. A person has a peer file, a few devices and
            the claims of some names; keys are free to make, so this only bounds what
            one program that went wrong takes.
        unbound_kept_s: CHUNK and CLAIM cost nothing to make. They are kept for a day
            after they were last brought; owners bring theirs every six hours.
        mirrored_keys: bags kept parsed in memory, 2 kB each mostly, so 8 MB. To read
            one from the file takes 15 µs, thrice what the rest of an answer takes.
    """

    max_records: int = 100_000
    max_bytes: int = 100_000_000
    bag_slots: int = 16
    group_records: int = 1000
    local_group_records: int = 10_000
    owner_records: int = 256
    unbound_kept_s: int = 86_400
    mirrored_keys: int = 4096
