"""`python -m gsegkit`."""

from gsegkit.cli import main

main()
