"""What is known of a daemon from its messages and its metrics endpoint, real pages included."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from streamd.bus import wire
from streamd.core.errors import StreamdError, UsageError
from streamd.service import scrape as scraping
from streamd.service.overview import Watch, as_json
from streamd.service.pages import PageServer
from streamd.service.scrape import PageStream, Reading, Scrape, Source, address_of, scrape
from tests.support.bad_messages import message_of

NONE = Reading()


def status(run: str = "r1", uptime_s: float = 10, dropped: int = 4, replay: bool = False) -> bytes:
    return wire.encode(
        wire.StatusMessage(
            run=run, version="0.1.0", uptime_s=uptime_s, provider="CPUExecutionProvider", model="m@1",
            streams={
                "gate": wire.StreamStatus(state="live", fps=15, age_p99_ms=9.0, seq=5, decoded=9, dropped=dropped),
                "dead": wire.StreamStatus(state="lost", reason="auth", fps=0, seq=0, decoded=0, dropped=0),
            },
            **({"replay": True} if replay else {}),
        )
    )  # fmt: skip


def result(seq: int, total: float = 5.0, run: str = "r1", stream: str = "gate") -> bytes:
    return wire.encode(
        wire.ResultMessage(
            run=run, stream=stream, epoch=0, seq=seq, frame=seq, dropped=0, received_us=1, published_us=2,
            clock="file", width=64, height=48, model="m", provider="CPUExecutionProvider",
            stages_ms={"decode": 1.0, "infer": total - 1, "total": total}, objects=[],
        )
    )  # fmt: skip


def watched(*messages: tuple[str, bytes]) -> Watch:
    watch = Watch("tcp://x:5560")
    for topic, body in messages:
        watch.take(topic, body)
    return watch


def test_before_anything_came_nothing_is_made_up() -> None:
    found = watched().overview(NONE)
    told = json.loads(as_json(found))
    assert told.keys() == {"schema", "endpoint", "at_us", "restarts", "metrics_problem"}


def test_results_give_ages_stages_and_what_was_lost() -> None:
    totals = [float(i) for i in range(1, 101)]
    messages = [
        ("streamd/gate/results", result(seq + 3 * (seq > 50), total)) for seq, total in enumerate(totals)
    ]
    gate = watched(("streamd/_daemon/status", status()), *messages).overview(NONE).streams["gate"]
    assert gate.lost == 3
    assert gate.age_p50_ms == pytest.approx(50.5)
    assert gate.age_p95_ms == pytest.approx(95.05)
    assert gate.stages_ms == {"decode": 1.0, "infer": pytest.approx(49.5)}
    assert gate.provider == "CPUExecutionProvider"


def test_a_status_that_is_sent_again_is_not_fresh_and_rates_come_from_two() -> None:
    watch = watched(("streamd/_daemon/status", status(replay=True)))
    assert not watch.fresh
    watch.take("streamd/_daemon/status", status(uptime_s=12, dropped=10))
    assert watch.fresh
    assert watch.overview(NONE).streams["gate"].dropped_per_s == 3.0


def test_another_run_begins_anew() -> None:
    watch = watched(
        ("streamd/_daemon/status", status()),
        ("streamd/gate/results", result(1)),
        ("streamd/gate/results", result(9)),
        ("streamd/_daemon/status", status("r2", 1, 0)),
    )
    found = watch.overview(NONE)
    assert (found.restarts, found.run, found.streams["gate"].lost) == (1, "r2", 0)
    assert found.streams["gate"].age_p50_ms is not None
    assert "dropped_per_s" not in json.loads(as_json(found))["streams"]["gate"]


def test_the_reason_is_known_with_the_bus_alone_and_more_with_the_metrics() -> None:
    event = wire.EventMessage(
        run="r1", stream="dead", epoch=0, n=3, at_us=1, event="lost", reason="auth", detail="401\x1b[2J", replay=True
    )  # fmt: skip
    watch = watched(("streamd/dead/events", wire.encode(event)), ("streamd/_daemon/status", status()))
    dead = watch.overview(NONE).streams["dead"]
    assert (dead.state, dead.reason, dead.detail) == ("lost", "auth", "401�[2J")
    assert isinstance(dead.since_s, float)
    answer = Scrape({"gate": PageStream(since_s=3.0, dropped={"stale": 4})}, {"gate": 2}, {"gate": 7})
    found = watch.overview(Reading("h:1", answer, ""))
    gate = found.streams["gate"]
    assert (gate.since_s, gate.drops, gate.reconnects, gate.packets_lost) == (3.0, {"stale": 4}, 2, 7)
    assert (found.metrics, json.loads(as_json(found)).get("metrics_problem")) == ("h:1", None)


def test_the_metrics_of_another_daemon_are_not_mixed_in() -> None:
    watch = watched(("streamd/_daemon/status", status()))
    found = watch.overview(Reading("h:1", Scrape({"other": PageStream()}), ""))
    assert found.metrics_problem == "h:1 is another daemon's"
    assert not isinstance(found.streams["gate"].drops, dict)


def test_a_newer_daemon_and_rubbish_are_noted() -> None:
    newer = watched(("streamd/_daemon/status", status().replace(b"status/1", b"status/2")))
    assert newer.newer == "streamd.status/2"
    odd = watched(("streamd/gate/results\x1b", b"x"), ("streamd/gate/\x1b/results", b"x")).overview(NONE)
    assert odd.unreadable == "streamd/gate/�/results"
    unknown = watched(("streamd/gate/alarms", b'{"schema":"streamd.alarm/1"}')).overview(NONE)
    assert "unreadable" not in json.loads(as_json(unknown))


@pytest.mark.parametrize("number", [b"-" + b"9" * 400, b"9" * 400, b"1e308"])
def test_numbers_without_end_are_no_message(number: bytes) -> None:
    event = wire.EventMessage(run="r1", stream="gate", epoch=0, n=1, at_us=-7, event="live")
    watch = watched(("streamd/_daemon/status", status()), ("streamd/gate/results", result(1)))
    watch.take("streamd/gate/events", wire.encode(event).replace(b"-7", number))
    watch.take("streamd/gate/results", result(77).replace(b"77", number))
    watch.take("streamd/gate/results", result(2, 77.5).replace(b"77.5", number))
    watch.take("streamd/_daemon/status", status(dropped=77).replace(b"77", number))
    watch.take("streamd/_daemon/status", status(uptime_s=77.5).replace(b"77.5", number))
    found = watch.overview(NONE)
    assert isinstance(found.unreadable, str)
    assert (found.streams["gate"].dropped, found.streams["gate"].age_p95_ms) == (4, 5.0)


def test_no_damaged_message_raises() -> None:
    watch = Watch("x")
    for seed in range(400):
        watch.take(*message_of(seed))
        json.loads(as_json(watch.overview(NONE)))


@contextmanager
def served(pages: dict[str, bytes], code: int = 200) -> Iterator[str]:
    answers = {path: partial(tuple, (code, "text/plain", body)) for path, body in pages.items()}
    server = PageServer("127.0.0.1:0", answers)  # type: ignore[arg-type]
    stop = threading.Event()
    thread = threading.Thread(target=server.run, args=(stop,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.port}"
    finally:
        stop.set()
        thread.join(10)


METRICS = b"""# TYPE streamd_reconnects counter
streamd_reconnects_total{stream="gate",reason="auth"} 2.0
streamd_reconnects_total{stream="gate",reason="eof"} 3.0
streamd_packets_lost_total{stream="gate"} 4.0
streamd_frame_age_seconds_bucket{stream="gate",le="1"} 4.0
"""


def test_pages_are_read() -> None:
    streams = b'{"gate": {"state": "live", "since_s": 2, "dropped": {"stale": 1}}}'
    with served({"/streams": streams, "/metrics": METRICS}) as at:
        found = scrape(address_of(f"http://{at}/"))
    assert found.streams["gate"].dropped == {"stale": 1}
    assert (found.reconnects, found.packets_lost) == ({"gate": 5}, {"gate": 4})


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [b"", b"[]", b"{", b'{"gate": 3}', b"[" * 100_000, b"\xff", b'{"a": {"dropped": 1}}']
)
def test_pages_of_others_are_refused(page: bytes) -> None:
    with (
        served({"/streams": page, "/metrics": METRICS}) as at,
        pytest.raises(StreamdError, match="no metrics"),
    ):
        scrape(address_of(at))


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [b"streamd_reconnects_total{", b"\xff", b"streamd_reconnects_total x", b"streamd_reconnects_total NaN"],
)
def test_metrics_of_others_are_refused(page: bytes) -> None:
    with served({"/streams": b"{}", "/metrics": page}) as at, pytest.raises(StreamdError, match="no metrics"):
        scrape(address_of(at))


def test_an_error_page_and_nobody_are_told_apart() -> None:
    with served({"/streams": b"{}"}, 503) as at, pytest.raises(StreamdError, match="no metrics endpoint"):
        scrape(address_of(at))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        source = Source(address_of(f"127.0.0.1:{nobody.getsockname()[1]}"))
        assert "has not answered so far" in source.latest().problem
        source.ask()
    assert "does not answer: connection refused" in source.latest().problem


@pytest.mark.slow
def test_an_answer_that_dribbles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scraping, "_ANSWER_S", 0.5)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        stop = threading.Event()

        def dribble() -> None:
            connection, _ = listener.accept()
            with connection:
                while not stop.wait(0.1):
                    try:
                        connection.send(b"x")
                    except OSError:
                        return

        thread = threading.Thread(target=dribble)
        thread.start()
        try:
            with pytest.raises(StreamdError, match="does not answer"):
                scrape(address_of(f"127.0.0.1:{listener.getsockname()[1]}"))
        finally:
            stop.set()
            thread.join(5)


@pytest.mark.parametrize(
    "text", ["", "host", ":1", "host:", "host:0", "host:70000", "host:x", "http://", "h:" + "9" * 5000, "h:²"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        address_of(text)


def test_addresses() -> None:
    assert str(address_of("[::1]:9560")) == "[::1]:9560"
    assert address_of("[::1]:9560").host == "::1"
