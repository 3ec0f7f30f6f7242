"""What can be wrong with the OpenDSR façade."""


class OpenDsrSettingsError(Exception):
    """The façade is switched on, and cannot sign."""
