"""One class per property that must hold in every run, whatever is done to the network.

A checker is told what happened, step by step, and raises a `ViolationError` at the
first step that breaks its property; ``finish`` is called when the run is over, for what
can only be judged then. Checkers know no backend: `real` and `event` tell them alike.
"""
