"""One file per question: build a network, run it, return what was found."""
