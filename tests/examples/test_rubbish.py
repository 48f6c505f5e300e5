"""The examples at the wrong endpoint, and in front of a reader that leaves."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import pytest

from tests.support import example
from tests.support.feed import Feed

pytestmark = pytest.mark.slow

RUBBISH = {
    "subscriber.py": ("streamd/a/results", [b"\xff"]),
    "count_people.py": ("streamd/a/results", [b'{"schema": "streamd.result/1"}']),
    "to_sqlite.py": ("streamd/a/results", [b"[]"]),
    "mqtt_bridge.py": ("streamd/a/events", [b"[]"]),
    "draw_boxes.py": ("streamd/a/results", [b"{}"]),
}

RESULT = (
    b'{"schema":"streamd.result/1","run":"r","stream":"a","epoch":0,"seq":%d,"frame":0,"dropped":0,'
    b'"received_us":1,"published_us":2,"clock":"file","width":9,"height":9,"model":"m","provider":"p",'
    b'"stages_ms":{},"objects":[]}'
)


def arguments(program: str, endpoint: str, folder: Path) -> list[object]:
    match program:
        case "to_sqlite.py":
            return [folder / "results.db", endpoint]
        case "draw_boxes.py":
            return [endpoint, folder / "pictures"]
        case "mqtt_bridge.py":
            return [endpoint, "--port", 1]
    return [endpoint]


@pytest.fixture
def programs() -> list[str]:
    """Those that can run with what is installed here."""
    try:
        import paho.mqtt.client  # noqa: F401
    except ImportError:
        return [program for program in RUBBISH if program != "mqtt_bridge.py"]
    return list(RUBBISH)


def test_what_is_no_message_ends_each_with_one_line(tmp_path: Path, programs: list[str]) -> None:
    with Feed(tmp_path) as feed:
        running = {name: example.start(name, *arguments(name, feed.endpoint, tmp_path)) for name in programs}
        feed.wait_for(len(running))
        for topic, parts in RUBBISH.values():
            feed.send(topic, *parts)
        ended = {name: example.end(process, None) for name, process in running.items()}
    for name, (code, _, err) in ended.items():
        *before, last = err.splitlines()
        assert code == 1, (name, err)
        assert last.startswith(f"{name.removesuffix('.py')}: "), (name, err)
        assert not [line for line in before if not line.startswith("mqtt_bridge: no broker")], (name, err)


def test_no_endpoint_is_one_line_too(tmp_path: Path, programs: list[str]) -> None:
    running = {name: example.start(name, *arguments(name, "rubbish", tmp_path)) for name in programs}
    for name, process in running.items():
        code, _, err = example.end(process, None)
        assert (code, err.count("\n")) == (1, 1), (name, err)
        assert "rubbish is no endpoint; write tcp://HOST:PORT" in err, name


@pytest.mark.long
def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """Files may not exceed 64 KiB: a disk that is full soon."""
    (tmp_path / "file").touch()
    with Feed(tmp_path) as feed:
        kept = example.start("to_sqlite.py", tmp_path / "results.db", feed.endpoint)
        resource.prlimit(kept.pid, resource.RLIMIT_FSIZE, (65536, 65536))
        feed.wait_for(1)
        for seq in range(2000):
            feed.send("streamd/a/results", RESULT % seq)
        code, _, err = example.end(kept, None)
    assert (code, err.count("\n")) == (1, 1), err
    assert err.startswith(f"to_sqlite: {tmp_path}/results.db: ")
    places = {
        "to_sqlite.py": [tmp_path / "none" / "results.db"],
        "draw_boxes.py": ["tcp://127.0.0.1:1", tmp_path / "none" / "a.mp4", "--stream", "a"],
        "plot_sqlite.py": [tmp_path / "results.db", tmp_path / "none" / "a.png"],
    }
    running = {name: example.start(name, *words) for name, words in places.items()}
    running["draw_boxes.py, a folder"] = example.start(
        "draw_boxes.py", "tcp://127.0.0.1:1", tmp_path / "file" / "a"
    )
    for name, process in running.items():
        code, _, err = example.end(process, None)
        assert (code, err.count("\n")) == (1, 1), (name, err)


def test_whoever_reads_may_leave(tmp_path: Path) -> None:
    with Feed(tmp_path) as feed:
        process = example.start("subscriber.py", feed.endpoint)
        feed.wait_for(1)
        assert process.stdout is not None
        feed.send("streamd/a/results", RESULT % 1)
        assert process.stdout.readline() == "a 1: -\n"
        process.stdout.close()
        feed.send("streamd/a/results", RESULT % 2)
        assert process.wait(30) == -signal.SIGPIPE
        assert process.stderr is not None
        assert process.stderr.read() == ""
        process.stderr.close()
