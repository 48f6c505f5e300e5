"""What a reader of results did not get: holes in a stream's `seq`."""

from __future__ import annotations


class Gaps:
    """Counts lost results. A daemon that was started again, or a stream that was added again, is no gap."""

    def __init__(self) -> None:
        self._expected: dict[tuple[str, str, int], int] = {}

    def before(self, run: str, stream: str, epoch: int, seq: int) -> int:
        """How many results of this stream were lost between the one taken before and this one; it is taken now."""
        key = (run, stream, epoch)
        expected = self._expected.get(key)
        if expected is None:
            # The first of this run and epoch: forget the runs before, or a year of restarts would add up.
            for old in [other for other in self._expected if other[1] == stream]:
                del self._expected[old]
        self._expected[key] = seq + 1
        return max(0, seq - expected) if expected is not None else 0
