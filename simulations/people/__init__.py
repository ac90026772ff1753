"""Users behind NATs and the servers that introduce them: rules, costs and loads.

The engines of the scenarios `ratio`, `volunteers`, `cascade` and `year`, which share
them.
"""
