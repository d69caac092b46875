"""Chapter 7. A decorated handler is a function here and a job in the fleet."""

from __future__ import annotations

from quiv_dist import AsyncQuiv, Quiv


def double(number: int) -> int:
    return number * 2


async def double_async(number: int) -> int:
    return number * 2


def test_submit_and_result(quiv: Quiv) -> None:
    handle = quiv.handler()(double)  # @quiv.handler() above the function, in an application
    quiv.start()
    assert handle(21) == 42
    assert handle.submit(21).result(timeout=20) == 42


def test_many_at_once(quiv: Quiv) -> None:
    handle = quiv.handler()(double)
    quiv.start()
    runs = handle.submit_many([(1,), (2,), (3,)])
    assert [run.result(timeout=20) for run in runs] == [2, 4, 6]


def test_a_key_makes_a_submission_idempotent(quiv: Quiv) -> None:
    handle = quiv.handler()(double)
    quiv.start()
    first = handle.submit_with((1,), key="invoice-7")
    again = handle.submit_with((1,), key="invoice-7")
    assert first.run_id == again.run_id
    assert len(quiv.get_all_jobs()) == 1


async def test_with_await(redis_url: str, namespace: str) -> None:
    quiv = AsyncQuiv(redis_url=redis_url, namespace=namespace)
    handle = quiv.handler()(double_async)
    await quiv.start()
    run = await handle.submit_async(21)
    assert await run == 42
    await quiv.shutdown()
