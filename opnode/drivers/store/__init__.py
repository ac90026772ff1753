"""The records that a node holds for others, on disk.

Owns the SQLite file (`file`), the limits (`config`), whose records make room for whose
(`quotas`) and the bags with their rules (`store`). Every record is verified before it
enters. Refuses to know who may ask for one, and whether its sender's address is true:
the caller does.
"""

from opnode.drivers.store.config import StoreConfig
from opnode.drivers.store.file import MEMORY
from opnode.drivers.store.quotas import StoreFull
from opnode.drivers.store.store import BagFull, RecordStore, StoreStatistics

__all__ = [
    "MEMORY",
    "BagFull",
    "RecordStore",
    "StoreConfig",
    "StoreFull",
    "StoreStatistics",
]
