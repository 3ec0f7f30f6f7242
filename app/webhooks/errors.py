"""Refusals of webhooks."""

import uuid

from app.errors import ServiceError


class WebhookNotFoundError(ServiceError):
    """There is no such endpoint, or none that the key may see."""

    status, slug, title = 404, "webhook-not-found", "Webhook not found"

    def __init__(self, endpoint_id: uuid.UUID) -> None:
        super().__init__(f"There is no webhook endpoint {endpoint_id}.")


class MessageNotFoundError(ServiceError):
    """The endpoint has no such message."""

    status, slug, title = 404, "webhook-message-not-found", "Webhook message not found"

    def __init__(self, message_id: uuid.UUID) -> None:
        super().__init__(f"The webhook endpoint has no message {message_id}.")


class WebhookExistsError(ServiceError):
    """One address is one endpoint, with one secret."""

    status, slug, title = 409, "webhook-exists", "Webhook exists"

    def __init__(self, url: str) -> None:
        super().__init__(
            f"There is a webhook endpoint for {url} already; delete it first, or rotate its secret."
        )


class UnknownCallbackError(ServiceError):
    """A request's `callback_url` is nobody's endpoint."""

    status, slug, title = 422, "unknown-callback", "Unknown callback"

    def __init__(self, url: str, model: str) -> None:
        super().__init__(
            f"No enabled webhook endpoint that this key may use for the model {model!r} has the address {url}: "
            "register it first by POST /v1/webhooks, whose answer holds the secret that its messages are signed with."
        )


class NoSecretError(ServiceError):
    """OpenDSR callbacks are signed with the service's certificate."""

    status, slug, title = 409, "webhook-without-secret", "Webhook without a secret"

    def __init__(self, endpoint_id: uuid.UUID) -> None:
        super().__init__(
            f"The webhook endpoint {endpoint_id} takes OpenDSR callbacks, which the service's certificate signs; "
            "it has no secret to rotate."
        )


class WebhookDisabledError(ServiceError):
    """Nothing is sent to a disabled endpoint."""

    status, slug, title = 409, "webhook-disabled", "Webhook disabled"

    def __init__(self, endpoint_id: uuid.UUID) -> None:
        super().__init__(f"The webhook endpoint {endpoint_id} is disabled; enable it first.")
