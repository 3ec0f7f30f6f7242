"""The `expunge` command. `program.py` holds its tree; a module each for what belongs together."""
