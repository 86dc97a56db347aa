"""What a child makes anew, and who notices that it is one."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from otel_pipeline.engine.forks import Forks, Step


class Part:
    """Notes when it is made anew."""

    def __init__(self, forks, name, said, step=Step.LOCKS):
        self.name, self.said = name, said
        forks.add(self.renew, step)

    def renew(self):
        self.said.append(self.name)


def test_parts_are_made_anew_step_by_step():
    """Threads last, whoever was there first; within a step in their order."""
    forks, said = Forks(), []
    parts = [Part(forks, "thread", said, Step.THREADS), Part(forks, "count", said, Step.ZERO)]
    parts += [Part(forks, "lock", said), Part(forks, "second lock", said), Part(forks, "name", said, Step.NAME)]
    forks.in_child()

    assert said == ["lock", "second lock", "count", "name", "thread"]


def test_what_is_gone_is_forgotten():
    """Nothing is kept alive by being made anew, and nothing is left of it."""
    forks, said = Forks(), []
    kept = Part(forks, "kept", said)
    Part(forks, "gone", said)
    gc.collect()
    forks.in_child()

    assert (said, len(forks._parts[Step.LOCKS]), kept.name) == (["kept"], 1, "kept")


def test_a_part_that_fails_does_not_keep_others_from_it():
    """It is counted."""
    forks, said, failed = Forks(), [], []
    forks.count_failure = failed.append

    def fail():
        raise RuntimeError

    forks.add(fail)
    forks.add(lambda: said.append("next"))
    forks.in_child()

    assert (said, failed) == (["next"], ["fork"])


def test_a_child_that_nobody_told_is_noticed_by_its_process_id():
    """Once, at the first door."""
    pids, said = iter([1, 1, 2, 2, 2, 2]), []
    forks = Forks(lambda: next(pids))
    forks.add(lambda: said.append(forks.told))

    assert [forks.notice() for _ in range(3)] == [False, True, False]
    assert said == [False]


def test_a_child_at_a_door_that_a_thread_of_its_parent_holds_does_not_wait():
    """It is noticed at the next one that is free."""
    pids = iter([1, 2, 2, 2, 2, 2])
    forks = Forks(lambda: next(pids))
    forks._noticing.acquire()

    assert forks.notice() is False
    forks._noticing.release()
    assert forks.notice() is True


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_the_interpreters_hook_is_told_of_in_a_child():
    """The registry of this process."""
    from otel_pipeline.engine.forks import forks

    said = []
    forks.add(lambda: said.append(os.getpid()))
    child = os.fork()
    if child == 0:
        os._exit(0 if said == [os.getpid()] else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert said == []


def test_a_part_that_lives_until_the_interpreter_ends_is_silent():
    """Whatever is taken down first."""
    program = (
        "from otel_pipeline.engine.forks import forks\n"
        "class Part:\n"
        "    def renew(self): pass\n"
        "part = Part()\n"
        "forks.add(part.renew)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
