"""The port between the worker and whatever runs jobs: a local process today, a cluster tomorrow."""

from typing import Protocol

from app.worker.task import JobTask, Message, Workplace


class Running(Protocol):
    """A job under way. It ends with exactly one `Finished` or `Failure`, even when its process just dies."""

    def poll(self, timeout: float) -> Message | None:
        """Wait up to `timeout` seconds for the next message; None where there was none.

        A process that died without a last word is reported as a `Failure` that says what became of it.
        """
        ...

    def cancel(self) -> None:
        """End it, at once and by force; return when it is gone and can write nothing any more."""
        ...


class Executor(Protocol):
    """Runs jobs. One worker uses it from one thread.

    An implementation for a Ray cluster would submit `app.worker.child.execute` as a task with the same two
    arguments, on a shared `Workplace.staging`, and map the death of its worker to `FailureKind`.
    """

    def start(self) -> None:
        """Get ready; return once a job would start without delay."""
        ...

    def submit(self, task: JobTask, workplace: Workplace) -> Running:
        """Start a job."""
        ...

    def close(self) -> None:
        """Give back what `start` took; every job has ended before."""
        ...
