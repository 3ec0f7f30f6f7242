"""Jobs as processes of this machine, forked from a server that has torch imported already."""

import multiprocessing
import signal
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess

from app.worker.task import Failure, FailureKind, JobTask, Message, Workplace
from models.families import FAMILIES
from unlearning.audits.suites import SUITES
from unlearning.catalog import methods

CHILD_MODULE = "app.worker.child"
OWN_PACKAGE = "unlearning."


class LocalProcessExecutor:
    """The default executor: one process per job, so that ending it is always possible."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")

    def start(self) -> None:
        """Start the forkserver and wait until a process of it has run."""
        self._context.set_forkserver_preload(["__main__", CHILD_MODULE, *modules_of_jobs()])
        process = self._context.Process(target=warm_up)
        process.start()
        process.join()
        if process.exitcode != 0:
            raise RuntimeError(f"no job could be run: the first process ended with {process.exitcode}")

    def submit(self, task: JobTask, workplace: Workplace) -> "LocalProcess":
        """Start a job's process."""
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(target=run_child, args=(task, workplace, sender), name="expunge-job")
        process.start()
        sender.close()  # so that the pipe ends when the process does
        return LocalProcess(process, receiver)

    def close(self) -> None:
        """Nothing to give back: the forkserver ends when this process does."""


class LocalProcess:
    """A job's process."""

    def __init__(self, process: ForkServerProcess, receiver: Connection) -> None:
        self._process = process
        self._receiver = receiver

    def poll(self, timeout: float) -> Message | None:
        """Return the next message, waiting up to `timeout` seconds; a silent death is a `Failure`."""
        if not wait([self._receiver, self._process.sentinel], timeout):
            return None
        try:
            if self._receiver.poll():
                message: Message = self._receiver.recv()
                return message
        except (EOFError, OSError):
            pass  # It died in mid-sentence: the exit code says more.
        self._process.join()
        return death(self._process.exitcode)

    def cancel(self) -> None:
        """Kill the process and wait until it is gone; once it is, this does nothing."""
        self._process.kill()
        self._process.join()
        self._receiver.close()


def death(exit_code: int | None) -> Failure:
    """Say what became of a process that ended without a last word."""
    if exit_code == -signal.SIGKILL:
        reason = "The job's process was killed, most likely because the system ran out of memory."
        return Failure(FailureKind.KILLED, reason)
    if exit_code is not None and exit_code < 0:
        return Failure(FailureKind.CRASHED, f"The job's process died of {signal.Signals(-exit_code).name}.")
    return Failure(FailureKind.CRASHED, f"The job's process ended with status {exit_code} and no result.")


def run_child(task: JobTask, workplace: Workplace, connection: Connection) -> None:
    """Enter the job's process. Its module is imported there alone, for it imports torch."""
    from app.worker.child import main  # noqa: PLC0415 - the worker itself imports no torch

    main(task, workplace, connection)


def warm_up() -> None:
    """Show that a process of the forkserver can import what jobs need."""
    import app.worker.child  # noqa: F401, PLC0415 - the worker itself imports no torch


def modules_of_jobs() -> list[str]:
    """Return the modules that jobs load: every family's, its audits, and the algorithms that are part of Expunge.

    Those of other packages are left to the jobs that want them: one that cannot be imported must not keep all
    others from running.
    """
    families = [
        module for family in FAMILIES.values() for module in (family.runtime_module, family.snapshots_module)
    ]
    functions = [*SUITES.values(), *(spec.implementation for spec in methods())]
    modules = {function.partition(":")[0] for function in functions}
    return [*families, *sorted(module for module in modules if module.startswith(OWN_PACKAGE))]
