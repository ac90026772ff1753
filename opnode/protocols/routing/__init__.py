"""The routing table: who enters, who stays, who is checked, and the k nearest."""

from opnode.protocols.routing.buckets import BucketView
from opnode.protocols.routing.config import RoutingConfig
from opnode.protocols.routing.entries import TableEntry, fits
from opnode.protocols.routing.table import Table

__all__ = ["BucketView", "RoutingConfig", "Table", "TableEntry", "fits"]
