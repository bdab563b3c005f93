"""What a function has answered is remembered, in bounded bytes: what strangers send is as long as they like."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache, update_wrapper
from sys import getsizeof
from typing import Final, Generic, ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")
LONGEST: Final = 1024  # bytes that a question takes: a character takes 1, in a text with an emoji 4


class Remembered(Generic[P, R]):
    """A pure function whose last answers are kept; a longer question is answered anew each time."""

    def __init__(self, function: Callable[P, R], answers: int, longest: int) -> None:
        kept = lru_cache(maxsize=answers)(function)
        self._function, self._longest = function, longest
        self._kept = cast("Callable[P, R]", kept)
        self.cache_clear, self.cache_info = kept.cache_clear, kept.cache_info
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **named: P.kwargs) -> R:
        size = 0
        for one in args:  # a sum over a generator takes twice the time
            size += _bytes(one) if type(one) is tuple else getsizeof(one)
        return self._kept(*args, **named) if size <= self._longest else self._function(*args, **named)


def remembered(answers: int, longest: int = LONGEST) -> Callable[[Callable[P, R]], Remembered[P, R]]:
    """Keep the last `answers` of a function whose arguments, given by position, take at most `longest` bytes."""
    return lambda function: Remembered(function, answers, longest)


def _bytes(values: Iterable[object]) -> int:
    return sum(_bytes(one) if type(one) is tuple else getsizeof(one) for one in values)
