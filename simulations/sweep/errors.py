"""What can go wrong with many runs at once.

Owns the errors. Refuses to know when they happen.
"""

from opnode.core.errors import OpnodeError


class ClusterLost(OpnodeError):  # noqa: N818 - named as in opnode.core.errors
    """The cluster cannot be reached, has no workers, or is gone.

    What was found until then is kept: start the cluster and the same command again.
    """


class CodeDiffers(OpnodeError):  # noqa: N818 - named as in opnode.core.errors
    """A worker runs other code than we do, or the code changed while a sweep ran.

    Install the same commit and libraries there; results would not be comparable.
    """


class ProcessLost(OpnodeError):  # noqa: N818 - named as in opnode.core.errors
    """The process of a run ended without an answer: killed, or out of memory.

    The run is tried again.
    """


class RunAbandoned(OpnodeError):  # noqa: N818 - named as in opnode.core.errors
    """Nobody waits for this run any more, so it was ended."""
