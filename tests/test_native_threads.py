"""Tasks of compiled calls side by side: each is done once, whoever helps and whoever calls."""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np
import pytest

from revrnn.native import threads
from revrnn.native.atomics import add_now, load_now, pause
from revrnn.native.compiling import callback, i64, native
from revrnn.native.tasks import (
    FAILED,
    INDEX,
    NUMBERS,
    SHORT,
    SIZE,
    failed,
    run_all,
    run_calls,
    say_failed,
    task_at,
)
from revrnn.torch_impl.native.threads import _region

TASKS = 7
regions = pytest.mark.parametrize("region", [0, _region()], ids=["helpers", "region"])


@native
def run_shares(share: int, tasks: Any, threads: int, region: int) -> bool:
    """Run a call's tasks, as handlers do; return whether there was memory."""
    enough: bool = run_all(share, tasks, threads, region)
    return enough


def _count(address: int) -> Any:
    add_now(address, i64(1))
    return 0


def _count_late(address: int) -> Any:
    for _ in range(100_000):
        pause()
    add_now(address, i64(1))
    return 0


@pytest.fixture(scope="module")
def count() -> Any:
    """Return a function that counts in its task how often it was called."""
    threads.prepare()
    return callback(_count)


def tasks_of() -> np.ndarray[Any, Any]:
    return np.zeros((TASKS, NUMBERS), np.int64)


@regions
@pytest.mark.parametrize("number", [1, 2, 3, 20])
def test_each_task_is_done_once(count: Any, number: int, region: int) -> None:
    """By fewer threads than tasks and by more; again and again, as between two chunks."""
    for _ in range(100):
        tasks = tasks_of()
        assert run_shares(count.address, tasks, number, region)
        assert tasks[:, 0].tolist() == [1] * TASKS


@regions
def test_callers_at_once(count: Any, region: int) -> None:
    """More callers than the board has places: those that find none do all by themselves."""
    results: list[list[int]] = []

    def call() -> None:
        tasks = tasks_of()
        for _ in range(200):
            run_shares(count.address, tasks, 3, region)
        results.append(tasks[:, 0].tolist())

    callers = [threading.Thread(target=call) for _ in range(threads._PLACES + 3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert results == [[200] * TASKS] * len(callers)
    assert not threads._board[threads._FIRST :].any()


@regions
def test_tasks_of_others_are_waited_for(region: int) -> None:
    """They write to what is the caller's."""
    threads.prepare()
    late = callback(_count_late)
    for _ in range(20):
        tasks = tasks_of()[:2]
        run_shares(late.address, tasks, 2, region)
        assert tasks[:, 0].tolist() == [1, 1]


def _count_by_call(address: int) -> Any:
    """Count in a task, if all tasks of its two have been counted as often; else spoil it."""
    task = task_at(address)
    first = address - task[INDEX] * 8 * NUMBERS
    for k in range(2):
        other = load_now(first + 8 * NUMBERS * k + 8 * SIZE)
        if other < task[SIZE]:
            task[FAILED] = 1
    for _ in range(1000 * (1 - task[INDEX])):  # the first one is late
        pause()
    add_now(address + 8 * SIZE, i64(1))
    return task[SHORT]


@regions
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_call_begins_when_the_one_before_is_done(region: int, number: int) -> None:
    """All of its tasks are, whoever does them."""
    threads.prepare()
    made = callback(_count_by_call)
    for _ in range(50):
        tasks = tasks_of()[:2]
        tasks[:, INDEX] = 0, 1
        run_calls(threads.job_of([(made.address, tasks)] * 9), number, region)
        assert tasks[:, SIZE].tolist() == [9, 9]
        assert not tasks[:, FAILED].any()


@regions
@pytest.mark.parametrize("fails", [0, 1])
def test_after_a_call_that_fails_none_is_made(count: Any, region: int, fails: int) -> None:
    threads.prepare()
    made = callback(_count_by_call)
    tasks, others = tasks_of()[:2], tasks_of()
    tasks[:, INDEX], tasks[fails, SHORT] = (0, 1), 1
    calls = [(count.address, others), (made.address, tasks), (count.address, others)]
    run_calls(threads.job_of(calls), 2, region)
    assert tasks[:, SIZE].tolist() == [1, 1]
    assert others[:, 0].tolist() == [1] * TASKS


def test_no_call_is_no_work() -> None:
    threads.prepare()
    run_calls(threads.job_of([]), 2, 0)


def test_a_task_without_memory_is_told(count: Any) -> None:
    tasks = tasks_of()
    tasks[3, FAILED] = 1
    assert not run_shares(count.address, tasks, 2, 0)


@native
def _fail(address: int) -> None:
    say_failed(address)


def test_a_share_says_that_memory_was_short() -> None:
    tasks = tasks_of()
    _fail(tasks[3].ctypes.data)
    assert np.argwhere(tasks).tolist() == [[3, FAILED]]


@native
def _failed(address: int) -> Any:
    return failed(address)


@pytest.mark.parametrize("what", [FAILED, SHORT])
def test_a_share_without_memory_or_words_has_failed(what: int) -> None:
    tasks = tasks_of()
    tasks[3, what] = 1
    assert [bool(_failed(task.ctypes.data)) for task in tasks] == [k == 3 for k in range(TASKS)]


@pytest.mark.skipif(not threads.POSIX, reason="helpers are POSIX threads")
def test_helpers_end_when_nothing_is_to_be_done(count: Any) -> None:
    for _ in range(20):
        run_shares(count.address, tasks_of(), 3, 0)
    for _ in range(200):
        if not threads._board[threads._ACTIVE]:
            break
        threading.Event().wait(0.02)
    assert threads._board[threads._ACTIVE] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_a_child_process_has_helpers_of_its_own(count: Any) -> None:
    """It has none of its parent's threads, whatever the board says when it begins."""
    from revrnn.torch_impl.native import threads as torch_threads

    threads._board[threads._ACTIVE] += 5
    child = os.fork()
    if not child:
        tasks = tasks_of()
        started = threads._board[threads._ACTIVE] == 0 and torch_threads._region() == 0
        run_shares(count.address, tasks, 3, 0)
        os._exit(0 if started and tasks[:, 0].tolist() == [1] * TASKS else 1)
    threads._board[threads._ACTIVE] -= 5
    assert os.waitpid(child, 0)[1] == 0
