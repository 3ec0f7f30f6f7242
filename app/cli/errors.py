"""The command line's own refusals."""


class CommandError(Exception):
    """A command cannot do its work; the message is one sentence a person can act on."""
