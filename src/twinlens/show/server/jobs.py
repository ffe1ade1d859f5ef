"""One worker, a bounded queue, and what became of each job.

A job is a key and a function that is told where to report; nothing here knows of models or HTTP.
One thread works because a model that is hooked for one measurement cannot serve another. Errands
are short: they run between two batches of the job at hand, so that nobody waits for it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any, TypeVar

from twinlens.__main__ import WORKER
from twinlens.errors import TwinlensError
from twinlens.show.server.job import Job, JobCancelledError, Progress, State, Tell, Work, starting
from twinlens.show.server.replies import BusyError, NotFoundError

Made = TypeVar("Made")
_SELDOM = 0.1  # seconds between two reports of a running job
_log = logging.getLogger(__name__)


class Jobs:
    """Jobs in the order they were asked for; at most `waiting` wait.

    Finished jobs are kept, the longest unused forgotten first, up to `kept` of them and
    `kept_bytes` of results; the result of one is the answer to the same key. A job whose last
    listener left is cancelled after `grace` seconds.
    """

    def __init__(
        self,
        *,
        waiting: int = 32,
        kept: int = 64,
        kept_bytes: int = 2**28,
        grace: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.waiting, self.kept, self.kept_bytes = waiting, kept, kept_bytes
        self.grace, self.clock = grace, clock
        self._changed = threading.Condition(threading.RLock())
        self._queue: deque[Job] = deque()
        self._errands: deque[Callable[[], None]] = deque()
        self._running: Job | None = None
        self._live: dict[str, Job] = {}  # by key: what the same question joins
        self._known: OrderedDict[str, Job] = OrderedDict()  # by id, longest unused first
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name=WORKER, daemon=True)
        self._thread.start()

    def submit(self, key: str, work: Work) -> tuple[Job, bool]:
        """The job of a key, and whether its result is there already.

        Raises `BusyError` where too many wait.
        """
        with self._changed:
            if job := self._live.get(key):
                job.asked += 1
                self._known.move_to_end(job.id)
                return job, job.is_final
            if self._closed or len(self._queue) >= self.waiting:
                raise BusyError(f"{len(self._queue)} looks are waiting; try again when one is done")
            job = Job(key, work)
            self._live[key] = self._known[job.id] = job
            self._queue.append(job)
            self._changed.notify_all()
            return job, False

    def errand(self, call: Callable[[], Made]) -> Future[Made]:
        """Have the worker do something short between two batches. Raises `BusyError`."""
        future: Future[Made] = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except Exception as error:  # the one who waits for it gets it
                    future.set_exception(error)

        with self._changed:
            if self._closed or len(self._errands) >= self.waiting:
                raise BusyError("too many requests are waiting; try again in a moment")
            self._errands.append(run)
            self._changed.notify_all()
        return future

    def find(self, name: str) -> Job:
        """The job with an id. Raises `NotFoundError` where there is none, or it was forgotten."""
        with self._changed:
            if name not in self._known:
                raise NotFoundError(f"there is no look {name!r}: it never was, or it was forgotten")
            self._known.move_to_end(name)
            return self._known[name]

    def progress(self, job: Job) -> Progress:
        """How far a job is now."""
        with self._changed:
            return self._placed(job)

    def cancel(self, job: Job) -> Progress:
        """End a job that is not finished; it stops at its next batch.

        Where several listen to it, it goes on for the others: who cancels stops listening.
        """
        with self._changed:
            if not job.is_final and len(job.listeners) < 2:
                if job in self._queue:
                    self._queue.remove(job)
                self._finish(job, "cancelled")
            return self._placed(job)

    @contextlib.contextmanager
    def listening(self, job: Job, wake: Callable[[], None]) -> Generator[None]:
        """`wake` is called whenever the job's progress changes; it must not block."""
        with self._changed:
            job.listeners.append(wake)
        try:
            yield
        finally:
            with self._changed:
                job.listeners.remove(wake)
                asked = job.asked
                alone = not job.listeners and not job.is_final
            if alone:
                timer = threading.Timer(self.grace, self._leave, (job, asked))
                timer.daemon = True
                timer.start()

    def close(self, patience: float = 10.0) -> None:
        """End everything and wait for the worker."""
        with self._changed:
            self._closed = True
            for job in list(self._known.values()):
                if job in self._queue:
                    self._queue.remove(job)
                self._finish(job, "cancelled")
            self._changed.notify_all()
        self._thread.join(patience)

    def _serve(self) -> None:
        while (job := self._next()) is not None:
            self._run(job)
            with self._changed:
                self._running = None
                self._tell_places()

    def _next(self) -> Job | None:
        while True:
            self._run_errands()
            with self._changed:
                while not (self._errands or self._queue or self._closed):
                    self._changed.wait()
                if self._closed:
                    return None
                if self._errands:
                    continue
                job = self._running = self._queue.popleft()
                job.progress = starting("running")
                self._tell(job)
                self._tell_places()
                return job

    def _run(self, job: Job) -> None:
        def tell(stage: str, done: int, total: int) -> None:
            self._run_errands()
            self._report(job, stage, done, total)

        try:
            result = job.work(tell)
        except JobCancelledError:
            return
        except TwinlensError as error:
            self._finish(job, "failed", str(error))
        except Exception as error:  # the worker goes on, whatever a model raises
            _log.debug("a look failed", exc_info=True)
            first = (str(error).splitlines() or [""])[0]
            self._finish(job, "failed", f"{type(error).__name__}: {first}")
        else:
            self._finish(job, "done", result=result)

    def _run_errands(self) -> None:
        while True:
            with self._changed:
                if not self._errands:
                    return
                run = self._errands.popleft()
            run()

    def _report(self, job: Job, stage: str, done: int, total: int) -> None:
        with self._changed:
            if job.is_final:
                raise JobCancelledError
            now, before = self.clock(), job.progress
            if stage != before.stage:
                job.stage_began = now
            left = None
            if 0 < done <= total:
                left = round((now - job.stage_began) / done * (total - done), 1)
            job.progress = Progress("running", 0, stage, done, total, left, None)
            if stage != before.stage or now - job.told >= _SELDOM:
                job.told = now
                self._tell(job)

    def _finish(
        self, job: Job, state: State, message: str | None = None, result: bytes = b""
    ) -> None:
        with self._changed:
            if job.is_final:
                return
            was = job.progress
            job.result, job.work = result, _nothing  # what the work holds on to can go
            job.progress = Progress(state, 0, was.stage, was.done, was.total, None, message)
            if state != "done":
                del self._live[job.key]
            self._tell(job)
            self._tell_places()
            self._forget()

    def _forget(self) -> None:
        finished = [job for job in self._known.values() if job.is_final]
        size = sum(len(job.result) for job in finished)
        for job in finished[:-1]:
            if len(finished) <= self.kept and size <= self.kept_bytes:
                return
            finished, size = finished[1:], size - len(job.result)
            del self._known[job.id]
            if self._live.get(job.key) is job:
                del self._live[job.key]

    def _leave(self, job: Job, asked: int) -> None:
        with self._changed:
            if not job.listeners and job.asked == asked:
                self.cancel(job)

    def _placed(self, job: Job) -> Progress:
        if job.progress.state != "queued":
            return job.progress
        before = int(self._running is not None)
        return starting("queued", before + self._queue.index(job))

    def _tell_places(self) -> None:
        for job in self._queue:
            self._tell(job)

    def _tell(self, job: Job) -> None:
        for wake in job.listeners:
            wake()


def _nothing(_tell: Tell) -> Any:
    return b""
