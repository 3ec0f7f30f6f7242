"""Errors of checkpoints and data. Each message is one sentence a person can act on."""


class ModelsError(Exception):
    """Base of this layer's errors."""


class CheckpointError(ModelsError):
    """A checkpoint is malformed, damaged, or not of its family."""


class DatasetError(ModelsError):
    """Data is malformed or contradicts itself."""


class UnknownFamilyError(ModelsError):
    """No installed family has this name."""


class UnknownArchitectureError(ModelsError):
    """No installed architecture has this name."""


class PluginError(ModelsError):
    """An installed package offers something that cannot be used; the message names the package."""
