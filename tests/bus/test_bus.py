"""The publisher and the client over real sockets."""

from __future__ import annotations

import grp
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streamd import subscribe
from streamd.bus import wire
from streamd.bus.admission import Admission
from streamd.bus.publisher import Note, Publisher
from streamd.bus.wake import Wake
from streamd.core.errors import OutputError, StreamdError, UsageError
from streamd.pipeline.lane import Lane
from streamd.pipeline.outbox import Outbox
from tests.bus.test_wire import result_of
from tests.support.frames import lane_of
from tests.support.zmq_reader import Reader


class Bench:
    """A publisher that runs, and what feeds it."""

    def __init__(self, bind: str, group: str | None = None, admission: Admission | None = None) -> None:
        wake = Wake()
        self.outbox: Outbox[Note] = Outbox(64, wake)
        self.publisher = Publisher(bind, self.outbox, wake, "run1", group=group, admission=admission)
        self.failure: Exception | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.publisher.run()
        except OutputError as error:
            self.failure = error

    def post(self, lane: Lane) -> None:
        assert self.outbox.wait_for_room()
        result = result_of()
        result.frame.lane = lane
        result.seq = lane.ledger.snapshot().published
        lane.ledger.decoded()
        lane.ledger.published()
        self.outbox.post(result)

    def event(self, n: int, stream: str, event: str) -> None:
        self.outbox.note(wire.EventMessage(run="run1", stream=stream, epoch=0, n=n, at_us=1, event=event))  # type: ignore[arg-type]


@contextmanager
def running(bind: str = "tcp://127.0.0.1:0", group: str | None = None) -> Iterator[Bench]:
    bench = Bench(bind, group)
    try:
        assert bench.publisher.bound.wait(10), bench.failure
        yield bench
    finally:
        bench.outbox.close()
        bench.thread.join(10)
        assert not bench.thread.is_alive()


def failure_of(bind: str, group: str | None = None) -> str:
    bench = Bench(bind, group)
    bench.thread.join(10)
    assert bench.failure is not None
    return str(bench.failure)


def settle(bench: Bench, reader: Reader) -> None:
    """Wait until the subscription has arrived: an event comes through, or its replay does."""
    bench.event(0, "settle", "live")
    assert reader.wait(lambda messages: any(m.get("stream") == "settle" for _, m in messages))


def test_results_of_all_streams_arrive_in_order_without_gaps() -> None:
    with running() as bench, Reader(bench.publisher.endpoint) as reader:
        settle(bench, reader)
        lanes = [lane_of(name) for name in ("cam1", "cam10")]
        for _ in range(50):
            for lane in lanes:
                bench.post(lane)
        assert reader.wait(lambda messages: sum("results" in topic for topic, _ in messages) == 100)
        for lane in lanes:
            seqs = [m["seq"] for topic, m in reader.messages if topic == f"streamd/{lane.stream}/results"]
            assert seqs == list(range(50))


def test_a_late_subscriber_gets_the_last_event_marked_as_replay() -> None:
    with running() as bench:
        with Reader(bench.publisher.endpoint) as first:
            settle(bench, first)
            bench.event(1, "gate", "connecting")
            bench.event(2, "gate", "live")
            bench.event(3, "gone", "live")
            bench.event(4, "gone", "removed")
            assert first.wait(lambda messages: any(m["n"] == 4 for _, m in messages))
        with Reader(bench.publisher.endpoint, b"streamd/g") as late:
            assert late.wait(lambda messages: len(messages) >= 1)
            bench.event(5, "gate", "lost")
            assert late.wait(lambda messages: any(m["n"] == 5 for _, m in messages))
        assert [(m["n"], m.get("replay", False)) for _, m in late.messages] == [(2, True), (5, False)]


def test_the_client_counts_gaps_and_starts_anew_with_a_new_run() -> None:
    with running() as bench, subscribe(bench.publisher.endpoint, stream="gate", timeout_s=20) as results:
        lane = lane_of("gate")
        with Reader(bench.publisher.endpoint) as reader:
            settle(bench, reader)
        _post_until_received(bench, lane, results)
        for _ in range(3):  # three results that are never sent: lost on the bus
            lane.ledger.decoded()
            lane.ledger.published()
        bench.post(lane)
        while next(results).seq < lane.ledger.snapshot().published - 1:
            pass
        assert results.gaps == 3


def _post_until_received(bench: Bench, lane: Lane, results: Iterator[wire.ResultMessage]) -> None:
    received = threading.Event()

    def post() -> None:
        while not received.wait(0.02):
            bench.post(lane)

    poster = threading.Thread(target=post)
    poster.start()
    try:
        first = next(results)
    finally:
        received.set()
        poster.join(10)
    assert first.stream == "gate"
    while first.seq < lane.ledger.snapshot().published - 1:
        first = next(results)


def test_latest_skips_to_the_newest() -> None:
    with (
        running() as bench,
        subscribe(bench.publisher.endpoint, latest=True, timeout_s=20) as results,
        Reader(bench.publisher.endpoint) as witness,
    ):
        lane = lane_of("gate")
        settle(bench, witness)
        _post_until_received(bench, lane, results)
        last = lane.ledger.snapshot().published + 40
        for _ in range(40):
            bench.post(lane)
        assert witness.wait(lambda messages: any(m.get("seq") == last - 1 for _, m in messages))
        deadline = time.monotonic() + 20
        steps = 0
        while next(results).seq != last - 1:
            steps += 1
            assert time.monotonic() < deadline
        assert steps < 40
        assert results.gaps == 0


@pytest.mark.slow
def test_waiting_ends_with_the_timeout_although_events_come() -> None:
    with running() as bench, subscribe(bench.publisher.endpoint, timeout_s=0.3) as results:
        ticking = threading.Event()

        def tick() -> None:
            n = 0
            while not ticking.wait(0.05):
                bench.event(n, "gate", "live")
                n += 1

        ticker = threading.Thread(target=tick)
        ticker.start()
        with pytest.raises(TimeoutError, match=r"no result within 0\.3 s"):
            next(results)
        ticking.set()
        ticker.join()


def test_a_foreign_message_is_refused_with_a_line() -> None:
    from streamd.bus.client import decode

    with pytest.raises(StreamdError, match=r"not a streamd\.result/1 message"):
        decode(b'{"schema": "other.result/9"}')
    with pytest.raises(StreamdError, match=r"speaks streamd\.result/9, .* update streamd on this side"):
        decode(b'{"schema": "streamd.result/9"}')
    with pytest.raises(StreamdError, match="check the endpoint"):
        decode(b"\xff\x00")


def test_a_newer_message_with_more_fields_is_read() -> None:
    from streamd.bus.client import decode
    from streamd.bus.messages import result_message

    body = wire.encode(result_message(result_of(), "run1", 9)).replace(b'"run":', b'"new_field":[1],"run":')
    assert decode(body).stream == "gate"


def test_an_endpoint_in_use_is_one_line() -> None:
    with running() as bench:
        assert "is in use" in failure_of(bench.publisher.endpoint)


def test_an_ipc_socket_is_for_owner_and_group_and_is_never_taken_over(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/bus"
    with running(endpoint) as bench, Reader(bench.publisher.endpoint) as reader:
        settle(bench, reader)
        assert stat.S_IMODE(os.stat(tmp_path / "bus").st_mode) == 0o660
        assert "is in use" in failure_of(endpoint)
        settle(bench, reader)
    assert not (tmp_path / "bus").exists()


def test_an_ipc_socket_belongs_to_the_configured_group(tmp_path: Path) -> None:
    others = [entry for entry in grp.getgrall() if entry.gr_gid != os.getegid()]
    if os.geteuid() != 0:  # then only into a group that one is in
        others = [entry for entry in others if entry.gr_gid in os.getgroups()]
    group = others[0] if others else grp.getgrgid(os.getegid())
    with running(f"ipc://{tmp_path}/bus", group.gr_name) as bench, Reader(bench.publisher.endpoint) as reader:
        settle(bench, reader)
        status = os.stat(tmp_path / "bus")
        assert (status.st_gid, stat.S_IMODE(status.st_mode)) == (group.gr_gid, 0o660)


def test_a_leftover_socket_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    leftover = socket.socket(socket.AF_UNIX)
    leftover.bind(str(tmp_path / "bus"))
    leftover.close()
    with running(f"ipc://{tmp_path}/bus"):
        pass
    (tmp_path / "file").write_text("precious")
    assert "is no socket" in failure_of(f"ipc://{tmp_path}/file")
    assert (tmp_path / "file").read_text() == "precious"


def test_an_unknown_group_and_an_unknown_address_are_one_line(tmp_path: Path) -> None:
    assert "publish.group" in failure_of(f"ipc://{tmp_path}/bus", "no-such-group-here")
    assert "no address of this machine" in failure_of("tcp://192.0.2.1:5560")


def test_an_endpoint_that_is_none_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="tcp://HOST:PORT"):
        subscribe("not an endpoint")


def test_a_close_right_after_a_post_is_never_overlooked() -> None:
    """One wake-up may stand for both; overlooked, each end of the daemon would take a second longer."""
    started = time.monotonic()
    for n in range(20):
        with running() as bench:
            bench.event(n, "gate", "removed")
    assert time.monotonic() - started < 10
