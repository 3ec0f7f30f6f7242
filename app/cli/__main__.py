"""`python -m app.cli`: the same command without its entry point."""

from app.cli.start import main

main()
