"""Users behind a mix of NATs who call each other."""
