"""``python -m inpca``, where the program `inpca` is not on the path."""

from inpca.cli import main

main()
