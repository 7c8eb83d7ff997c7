"""`python -m neuralsde` is the command line."""

from neuralsde.cli.entry import main

main()
