from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading
import weakref

import pytest
import uvloop

from quiv_dist.events.mainloop import (
    MainLoop,
    MainLoopWork,
    is_own_loop,
    is_shared_loop,
    mark_own_loop,
    running_loop,
)
from tests.unit.loops import DEADLINE_S, loop_in_thread


def test_without_a_running_loop_there_is_none() -> None:
    assert running_loop() is None
    assert MainLoop().resolve() is None


def test_a_loop_that_is_given_is_used_before_it_runs_and_from_every_thread() -> None:
    loop = asyncio.new_event_loop()
    main = MainLoop(loop)
    assert main.resolve() is loop
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(main.resolve).result(DEADLINE_S) is loop
    loop.close()


def test_the_loop_running_at_start_is_found_later_from_other_threads() -> None:
    main = MainLoop()

    async def start() -> None:
        main.adopt()

    with loop_in_thread() as loop:
        asyncio.run_coroutine_threadsafe(start(), loop).result(DEADLINE_S)
        assert main.resolve() is loop


async def test_a_call_where_a_loop_runs_finds_it_without_a_start() -> None:
    main = MainLoop()
    assert main.resolve() is asyncio.get_running_loop()


async def test_the_loop_found_first_stays_while_it_is_open() -> None:
    main = MainLoop()
    main.adopt()

    async def adopt_elsewhere() -> asyncio.AbstractEventLoop | None:
        main.adopt()
        return main.resolve()

    with loop_in_thread() as other:
        found = await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(adopt_elsewhere(), other)
        )
    assert found is asyncio.get_running_loop()


async def test_a_given_loop_that_was_closed_is_unavailable_for_good() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    assert MainLoop(loop).resolve() is None


async def test_a_found_loop_that_was_closed_gives_way_to_the_one_running_now() -> None:
    main = MainLoop()

    async def adopt() -> None:
        main.adopt()

    with loop_in_thread() as earlier:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(adopt(), earlier))
    assert main.resolve() is asyncio.get_running_loop()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(main.resolve).result() is asyncio.get_running_loop()


def test_a_found_loop_that_was_closed_is_unavailable_where_none_runs() -> None:
    main = MainLoop()

    async def adopt() -> None:
        main.adopt()

    asyncio.run(adopt())
    assert main.resolve() is None


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_quiv_dists_own_loops_never_count(
    new_loop: type[asyncio.AbstractEventLoop], shared: bool
) -> None:
    loop = new_loop()
    mark_own_loop(loop, shared=shared)
    assert is_own_loop(loop)
    assert is_shared_loop(loop) is shared

    async def resolve(main: MainLoop) -> asyncio.AbstractEventLoop | None:
        return main.resolve()

    found = MainLoop()
    assert loop.run_until_complete(resolve(found)) is None
    assert loop.run_until_complete(resolve(MainLoop(loop))) is None
    loop.close()
    # The own loop was not remembered either: the application's is found when it comes.
    assert asyncio.run(resolve(found)) is not None


def test_a_loop_of_the_application_is_neither_own_nor_shared() -> None:
    loop = asyncio.new_event_loop()
    assert not is_own_loop(loop)
    assert not is_shared_loop(loop)
    loop.close()


def test_marking_a_loop_does_not_keep_it() -> None:
    loop = asyncio.new_event_loop()
    mark_own_loop(loop, shared=False)
    loop.close()
    gone = weakref.ref(loop)
    del loop
    gc.collect()
    assert gone() is None


def test_work_counts_from_before_the_hand_over_until_it_has_settled() -> None:
    work = MainLoopWork()
    first, second = work.begin(), work.begin()
    assert work.pending() == 2
    future: concurrent.futures.Future[None] = concurrent.futures.Future()
    first.follow(future)
    second.end()
    second.end()
    assert work.pending() == 1
    future.set_result(None)
    assert work.pending() == 0


@pytest.mark.parametrize("outcome", ["fails", "is cancelled", "had finished before"])
def test_work_is_not_pending_however_it_settled(outcome: str) -> None:
    work = MainLoopWork()
    hand_over = work.begin()
    future: concurrent.futures.Future[None] = concurrent.futures.Future()
    if outcome == "had finished before":
        future.set_result(None)
    hand_over.follow(future)
    if outcome == "fails":
        future.set_exception(ValueError("x"))
    elif outcome == "is cancelled":
        future.cancel()
    assert work.pending() == 0


async def test_a_task_that_nothing_else_holds_survives_collection_while_followed() -> None:
    work = MainLoopWork()
    finished = threading.Event()

    async def wait_on_what_only_this_task_holds(started: asyncio.Event) -> None:
        alone = asyncio.get_running_loop().create_future()
        kept.append(weakref.ref(alone))
        started.set()
        await alone
        finished.set()

    kept: list[weakref.ref[asyncio.Future[None]]] = []
    started = asyncio.Event()
    work.begin().follow(asyncio.create_task(wait_on_what_only_this_task_holds(started)))
    await started.wait()
    gc.collect()
    alone = kept[0]()
    assert alone is not None
    alone.set_result(None)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert finished.is_set()
    assert work.pending() == 0
