"""`python -m opnode` is the command `opnode`."""

from opnode.cli.main import main

main()
