"""A daemon whose configuration is changed while it runs, and what subscribers see of that."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from tests.support.daemon import RunningDaemon, write_config
from tests.support.zmq_reader import Reader


class Bench:
    """A daemon, its file, and a subscriber to all of it."""

    def __init__(
        self,
        path: Path,
        model: Path,
        streams: dict[str, Any],
        env: dict[str, str] | None = None,
        **sections: Any,
    ) -> None:
        self.path = write_config(path, model, streams, **sections)
        self.daemon = RunningDaemon(self.path, env)

    def __enter__(self) -> Bench:
        self.daemon.__enter__()
        self.reader = Reader(self.daemon.endpoint)
        return self

    def __exit__(self, *args: object) -> None:
        self.reader.close()
        self.daemon.__exit__(*args)

    def change(self, **sections: Any) -> None:
        """Write the file anew: sections replace those there; the streams are all of them."""
        config = yaml.safe_load(self.path.read_text())
        config.update(sections)
        # In one step: the daemon may be reading.
        fresh = self.path.with_suffix(".new")
        fresh.write_text(yaml.safe_dump(config, sort_keys=False))
        fresh.rename(self.path)

    def reload(self, event: str = "reloaded") -> dict[str, Any]:
        """Send SIGHUP and wait for what comes of it."""
        before = len(self.daemon_events(event))
        self.daemon.process.send_signal(signal.SIGHUP)
        assert self.until(lambda: len(self.daemon_events(event)) > before), self.daemon.log
        return self.daemon_events(event)[-1]

    def until(self, holds: Callable[[], bool], timeout_s: float = 60) -> bool:
        return self.reader.wait(lambda _: holds(), timeout_s)

    def daemon_events(self, event: str) -> list[dict[str, Any]]:
        return [m for m in self.reader.of("_daemon/events") if m["event"] == event]

    def statuses(self, key: str) -> set[Any]:
        """What all statuses so far say under this key; there is one each second."""
        return {m[key] for m in self.reader.of("_daemon/status")}

    def events(self, stream: str) -> list[str]:
        return [m["event"] for m in self.reader.of(f"/{stream}/events") if not m.get("replay")]

    def untouched(self, stream: str) -> bool:
        """Whether the stream was opened once, and none of its results is missing."""
        return self.events(stream).count("connecting") <= 1 and without_gaps(self.results(stream))

    def results(self, stream: str) -> list[dict[str, Any]]:
        return self.reader.of(f"/{stream}/results")

    def more(self, stream: str, count: int = 10) -> bool:
        """Wait for so many results more."""
        return self.all_more([stream], count)

    def all_more(self, streams: Iterable[str], count: int = 10) -> bool:
        """Wait until each of these has had so many more, all at the same time."""
        wanted = {name: len(self.results(name)) + count for name in streams}
        return self.until(lambda: all(len(self.results(name)) >= most for name, most in wanted.items()))


def without_gaps(results: list[dict[str, Any]]) -> bool:
    """Whether `seq` rises by one, in one epoch, and the frames' numbers agree with it."""
    seqs = [m["seq"] for m in results]
    return (
        seqs == list(range(seqs[0], seqs[0] + len(seqs)))
        and len({m["epoch"] for m in results}) == 1
        and all(m["frame"] - m["seq"] == m["dropped"] for m in results)
    )


def balances(bench: Bench) -> None:
    for state in bench.daemon.streams().values():
        assert state["decoded"] == state["published"] + sum(state["dropped"].values()) + state["in_flight"]
