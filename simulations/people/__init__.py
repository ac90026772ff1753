"""Users behind NATs and the servers that introduce them: rules, costs and loads."""
