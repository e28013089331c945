"""`python -m gsegkit`."""

from gsegkit.cli.main import main

main()
