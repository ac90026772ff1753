"""The types of arrays that engines and scenarios share."""

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]
"""Of nodes, in an order that the engine tells."""
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
