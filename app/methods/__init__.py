"""The catalog of methods over HTTP."""
