"""Errors of the science, without HTTP codes: `app` maps them. Each message is a sentence a person can act on."""


class UnlearningError(Exception):
    """Base of this layer's errors."""


class UnknownMethodError(UnlearningError):
    """The catalog has no such method."""


class ConfigurationError(UnlearningError):
    """A method's parameters are unknown or out of range."""


class PlanningError(UnlearningError):
    """No method fits what was asked."""


class TargetError(UnlearningError):
    """One request's target cannot be forgotten; the other requests of its job are not to blame."""


class MethodError(UnlearningError):
    """A method could not do its work: the model it returned nothing for stays as it was."""


class MethodUnsuitableError(UnlearningError):
    """A rung declines this model, data or target; the next rung of the plan may still serve it."""


class MetricError(UnlearningError):
    """A figure is not defined for these items; its check is inconclusive, with this message as the reason."""


class MissingReferenceError(UnlearningError):
    """What a measurement must be compared with is not there; the message says why."""
