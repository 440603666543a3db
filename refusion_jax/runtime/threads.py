"""Work done in threads or processes, with its results in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_order(
    function: Callable[[T], R],
    items: Iterable[T],
    workers: int,
    executor: Callable[[int], Executor] = ThreadPoolExecutor,
) -> Generator[R, None, None]:
    """function(item) of each item, in the order of the items, computed at most 2 * workers items ahead (not with
    one worker, which is the caller itself).

    An error of the function is raised where its result would come; what was not begun is then dropped.
    """
    if workers == 1:
        yield from map(function, items)
        return
    items = iter(items)
    with executor(workers) as pool:
        try:
            waiting = deque(pool.submit(function, item) for item in islice(items, 2 * workers))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in islice(items, 1))
        finally:
            pool.shutdown(cancel_futures=True)
