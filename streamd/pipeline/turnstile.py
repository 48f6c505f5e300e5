"""How many decoders may be in Python at a time: as many as there is room for, the others wait in front."""

from __future__ import annotations

import itertools
import threading
from contextlib import AbstractContextManager, nullcontext

from streamd.core.cores import usable_cores
from streamd.core.picture import Picture

_SMALL_PIXELS = 640 * 360
"""Pictures up to this size take less to prepare than their threads take to change between all the calls for it."""


class Turnstile:
    """One decoder's way through. Made by `Turnstiles`; held for the Python part of one picture, never while waiting.

    Preparing a picture is a dozen short calls that each give the interpreter's lock away. With dozens of decoders
    there is always another one to take it, so that each call costs two changes of threads: 64 cameras of 64x64
    that ask for more than a core can do got a fifth of the results that they get when they take turns
    (`python -m tests.support.crowd_race`).
    """

    def __init__(self, small: threading.Lock, large: threading.Lock) -> None:
        self._small, self._large = small, large

    def for_(self, picture: Picture) -> AbstractContextManager[object]:
        """What to hold while this picture is prepared and handed on."""
        if picture.device is not None:
            return nullcontext()  # a GPU does the work, and is waited for
        return self._small if picture.width * picture.height <= _SMALL_PIXELS else self._large


class Turnstiles:
    """Hands out turnstiles: one decoder at a time for small pictures, as many as there are cores for larger ones."""

    def __init__(self) -> None:
        self._locks = [threading.Lock() for _ in range(usable_cores())]
        self._numbers = itertools.count()

    def next(self) -> Turnstile:
        """For one more decoder. Any thread."""
        return Turnstile(self._locks[0], self._locks[next(self._numbers) % len(self._locks)])
