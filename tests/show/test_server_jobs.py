"""The queue: order, places, sharing, cancelling, forgetting. No model and no HTTP."""

from __future__ import annotations

import threading

import pytest

pytest.importorskip("fastapi")

from twinlens.errors import SubjectError
from twinlens.show.server.job import FINAL
from twinlens.show.server.jobs import Jobs
from twinlens.show.server.replies import BusyError, NotFoundError

PATIENCE = 30  # seconds; only a test that fails waits that long


class Steps:
    """Work of some steps, each of which waits to be let go."""

    def __init__(self, steps: int = 3) -> None:
        self.steps, self.reached = steps, 0
        self.began, self.ended = threading.Event(), threading.Event()
        self.go = threading.Semaphore(0)

    def __call__(self, tell) -> bytes:
        try:
            tell("first", 0, 0)
            self.began.set()
            for step in range(1, self.steps + 1):
                assert self.go.acquire(timeout=PATIENCE)
                self.reached = step
                tell("second", step, self.steps)
            return b"made"
        finally:
            self.ended.set()

    def let_go(self) -> None:
        self.go.release(1000)


@pytest.fixture
def make():
    made: list[Jobs] = []

    def jobs(**options) -> Jobs:
        made.append(Jobs(**options))
        return made[-1]

    yield jobs
    for one in made:
        one.close()
        assert not one._thread.is_alive()


def finished(jobs: Jobs, job):
    """Wait for the end of a job."""
    changed = threading.Event()
    with jobs.listening(job, changed.set):
        while (now := jobs.progress(job)).state not in FINAL:
            assert changed.wait(PATIENCE)
            changed.clear()
    return now


def quick(_tell) -> bytes:
    return b"quick"


def test_jobs_wait_in_order_and_are_told_their_place(make):
    jobs, first = make(), Steps()
    running, _ = jobs.submit("a", first)
    assert first.began.wait(PATIENCE)
    order: list[str] = []
    later = [
        jobs.submit(key, lambda _, key=key: order.append(key) or b"")[0] for key in ("b", "c", "d")
    ]
    assert jobs.progress(running).state == "running"
    assert [jobs.progress(job).place for job in later] == [1, 2, 3]
    assert jobs.progress(later[2]).state == "queued"
    jobs.cancel(later[0])
    assert [jobs.progress(job).place for job in later[1:]] == [1, 2]
    first.let_go()
    assert finished(jobs, running).state == "done"
    assert finished(jobs, later[2]).state == "done"
    assert order == ["c", "d"], "what was cancelled in the queue never runs"
    assert running.result == b"made"


def test_progress_names_the_stage_and_what_is_left_of_it(make):
    now = [100.0]
    jobs, work = make(clock=lambda: now[0]), Steps(4)
    job, _ = jobs.submit("a", work)
    assert work.began.wait(PATIENCE)
    assert jobs.progress(job) == jobs.progress(job)
    assert (jobs.progress(job).stage, jobs.progress(job).seconds_left) == ("first", None)
    seen, changed = [], threading.Event()
    with jobs.listening(job, changed.set):
        for _ in range(4):
            now[0] += 2.0
            work.go.release()
            assert changed.wait(PATIENCE)
            changed.clear()
            seen.append(jobs.progress(job))
        finished(jobs, job)
    assert [(p.done, p.total) for p in seen[:3]] == [(1, 4), (2, 4), (3, 4)]
    assert seen[0].seconds_left == 0.0, "the stage has only begun"
    assert seen[1].seconds_left == pytest.approx(2.0)  # 2 s for 2 steps so far, 2 steps left


def test_a_cancelled_job_stops_where_it_reports_and_the_next_one_runs(make):
    jobs, work = make(), Steps(1000)
    job, _ = jobs.submit("a", work)
    assert work.began.wait(PATIENCE)
    after, _ = jobs.submit("b", quick)
    assert jobs.cancel(job).state == "cancelled"
    assert jobs.progress(after).place == 1, "the worker is still at its batch"
    work.let_go()
    assert work.ended.wait(PATIENCE)
    assert work.reached == 1
    assert finished(jobs, after).state == "done"
    assert jobs.progress(job).state == "cancelled"
    assert jobs.cancel(after).state == "done", "what is done stays done"


def test_the_same_question_shares_a_job_and_then_its_result(make):
    jobs, work = make(), Steps()
    job, cached = jobs.submit("a", work)
    again, also = jobs.submit("a", quick)
    assert (again, cached, also) == (job, False, False)
    work.let_go()
    finished(jobs, job)
    assert jobs.submit("a", quick) == (job, True)
    assert job.result == b"made"


def test_what_failed_or_was_cancelled_is_done_anew(make):
    jobs = make()

    def fails(_tell):
        raise SubjectError("no such subject")

    def breaks(_tell):
        raise RuntimeError("sizes differ\nand more")

    failed, _ = jobs.submit("a", fails)
    assert finished(jobs, failed).message == "no such subject"
    broken, _ = jobs.submit("b", breaks)
    assert finished(jobs, broken).message == "RuntimeError: sizes differ"
    work = Steps()
    cancelled, _ = jobs.submit("c", work)
    jobs.cancel(cancelled)
    work.let_go()
    for key, before in (("a", failed), ("b", broken), ("c", cancelled)):
        job, cached = jobs.submit(key, quick)
        assert job is not before
        assert not cached
        assert finished(jobs, job).state == "done"


def test_only_so_many_wait(make):
    jobs, work = make(waiting=2), Steps()
    jobs.submit("a", work)
    assert work.began.wait(PATIENCE)
    jobs.submit("b", quick)
    jobs.submit("c", quick)
    with pytest.raises(BusyError, match="2 looks are waiting"):
        jobs.submit("d", quick)
    assert not jobs.submit("c", quick)[1], "who asks the same does not wait in line again"
    for _ in range(2):
        jobs.errand(lambda: None)
    with pytest.raises(BusyError):
        jobs.errand(lambda: None)
    work.let_go()


@pytest.mark.parametrize("bounds", [{"kept": 2}, {"kept_bytes": 11}])
def test_the_longest_unused_results_are_forgotten(make, bounds):
    jobs = make(**bounds)
    a, b = (jobs.submit(key, quick)[0] for key in "ab")
    finished(jobs, b)
    jobs.find(a.id)  # so that b is the one that was not used for longest
    c, _ = jobs.submit("c", quick)
    finished(jobs, c)
    assert [jobs.find(job.id) for job in (a, c)] == [a, c]
    with pytest.raises(NotFoundError, match="forgotten"):
        jobs.find(b.id)
    assert not jobs.submit("b", quick)[1]


def test_the_last_listener_who_leaves_ends_the_job(make):
    jobs, work = make(grace=0.0), Steps()
    job, _ = jobs.submit("a", work)
    assert work.began.wait(PATIENCE)
    with jobs.listening(job, lambda: None):
        with jobs.listening(job, lambda: None):
            pass
        for timer in _timers():
            timer.join(PATIENCE)
        assert jobs.progress(job).state == "running", "somebody still listens"
    for timer in _timers():
        timer.join(PATIENCE)
    assert jobs.progress(job).state == "cancelled"
    work.let_go()


def test_who_asks_again_in_time_keeps_the_job(make):
    jobs, work = make(grace=3600.0), Steps()
    job, _ = jobs.submit("a", work)
    with jobs.listening(job, lambda: None):
        pass
    left_at = job.asked
    assert jobs.submit("a", quick) == (job, False)
    jobs._leave(job, left_at)
    assert jobs.progress(job).state in ("queued", "running")
    for timer in _timers():
        timer.cancel()
    jobs._leave(job, job.asked)
    assert jobs.progress(job).state == "cancelled"
    work.let_go()


def _timers() -> list[threading.Timer]:
    return [t for t in threading.enumerate() if isinstance(t, threading.Timer)]


def test_errands_run_between_batches_by_the_same_thread(make):
    jobs, work = make(), Steps()
    job, _ = jobs.submit("a", work)
    assert work.began.wait(PATIENCE)
    errand = jobs.errand(lambda: (work.reached, threading.current_thread()))
    work.go.release()
    assert errand.result(PATIENCE) == (1, jobs._thread)

    def fails():
        raise SubjectError("not there")

    wrong = jobs.errand(fails)
    work.let_go()
    assert isinstance(wrong.exception(PATIENCE), SubjectError)
    assert finished(jobs, job).state == "done"
    assert jobs.errand(lambda: 7).result(PATIENCE) == 7, "and while nothing runs"


def test_closing_ends_all(make):
    jobs, work = make(), Steps()
    job, _ = jobs.submit("a", work)
    waiting, _ = jobs.submit("b", quick)
    work.let_go()
    jobs.close()
    assert {jobs.progress(j).state for j in (job, waiting)} <= {"cancelled", "done"}
    with pytest.raises(BusyError):
        jobs.submit("c", quick)
