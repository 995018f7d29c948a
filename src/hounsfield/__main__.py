"""`python -m hounsfield`: the command line where the entry point is not on the path."""

from hounsfield.cli import main

main()
