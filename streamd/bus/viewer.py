"""Reading a daemon's pictures in another process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from streamd.bus import wire
from streamd.bus.client import Login, Messages, decode, read_login
from streamd.core.errors import StreamdError

_PICTURES_KEPT = 2


class Pictures:
    """An iterator of (result, JPEG file), made by `pictures`; close it, or use it in a `with`.

    A reader that is slower than the pictures come loses some; so there are holes in `seq`. One thread at a time.
    """

    def __init__(
        self, endpoint: str, stream: str | None, *, timeout_s: float | None = None, login: Login | None = None
    ) -> None:
        self._timeout_s = timeout_s
        prefix = wire.topic(stream, "frames") if stream else b"streamd/"
        # Pictures are large, and old ones are of no use: what is not read is lost, not kept.
        self._messages = Messages(endpoint, prefix, login=login, queue=_PICTURES_KEPT)

    def __iter__(self) -> Iterator[tuple[wire.ResultMessage, bytes]]:
        return self

    def __next__(self) -> tuple[wire.ResultMessage, bytes]:
        """The next picture; blocks. Raises as `within`, with the time-out that was given at first."""
        return self.within(self._timeout_s)

    def within(self, timeout_s: float | None) -> tuple[wire.ResultMessage, bytes]:
        """The next picture. Raises TimeoutError after `timeout_s` without one (None: waits for ever).

        Raises StreamdError for a message that holds none, or when refused.
        """
        try:
            topic, *parts = self._messages.parts_within(timeout_s)
        except TimeoutError:
            raise TimeoutError(f"no picture within {timeout_s:g} s{self.hint}") from None
        if not topic.endswith(b"/frames") or len(parts) < 2:
            raise StreamdError("a message without a picture; pictures come from the endpoint publish.frames")
        return decode(parts[0]), parts[1]

    @property
    def hint(self) -> str:
        """What may be wrong, as the end of a message; empty when nothing is known."""
        return self._messages.hint

    def close(self) -> None:
        """Disconnect. Iterating afterwards raises ZMQError."""
        self._messages.close()

    def __enter__(self) -> Pictures:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def pictures(
    endpoint: str,
    *,
    stream: str | None = None,
    timeout_s: float | None = None,
    keys: str | Path | None = None,
    server_key: str | Path | None = None,
) -> Pictures:
    """Read the source pictures of a daemon with their results, of all streams or of one.

    endpoint: the daemon's `publish.frames`. The daemon encodes pictures while somebody reads them, at most
    `publish.frames_max_fps` a second and stream. Waits for a daemon that is not there yet; keys as in
    `subscribe`.
    """
    return Pictures(endpoint, stream, timeout_s=timeout_s, login=read_login(keys, server_key))
