"""The HTTP server inside `serve` and `api`. Imported when one of them runs: client commands start faster without."""

import socket
from collections.abc import Callable

import uvicorn

from app.cli.errors import CommandError
from app.cli.signals import on_stop_signals
from app.main import create_app
from app.settings import Settings

GRACE_SECONDS = 5
"""How long open answers, event streams above all, may go on after the service was told to stop."""


class Server(uvicorn.Server):
    """A server that says when it answers, and that a signal stops without ending the process.

    Args:
        settings: The service's settings.
        on_ready: Called once requests are answered.
    """

    def __init__(self, settings: Settings, on_ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                create_app(settings),
                log_config=None,
                access_log=False,  # it would tell of paths and queries; ours is in `app.telemetry.calls`
                server_header=False,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, then tell so."""
        await super().startup(sockets=sockets)
        if self.started:
            self._on_ready()

    def stop(self) -> None:
        """End soon; may be called from any thread."""
        self.should_exit = True

    def run_until_stopped(self, listener: socket.socket) -> None:
        """Serve until a signal or `stop`, then return."""
        # Uvicorn raises the signal it was stopped by once more when it is done. That one must end up here and
        # not kill the process, which has a worker to put away.
        with on_stop_signals(self.stop):
            self.run(sockets=[listener])


def listen(settings: Settings) -> socket.socket:
    """Open the listening socket, so that a taken port is one sentence and port 0 is known before the start.

    Raises:
        CommandError: The address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        raise CommandError(
            f"Cannot listen on {settings.host} port {settings.port}: {error.strerror}."
        ) from error


def listening_url(settings: Settings, listener: socket.socket) -> str:
    """Return where the listening socket is reached."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{listener.getsockname()[1]}"
