"""The stop flag ends whatever the reader waits for, at once, and nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from streamd.core.errors import Reason, SourceError
from streamd.sources import Tls, Transport, open_source
from tests.support.clips import Clip, make
from tests.support.rtsp_camera import Camera, Faults, Stream, Units, units_of
from tests.support.rtsp_reading import request_of

pytestmark = pytest.mark.slow

EACH = 8
AT_ONCE = 4
"""States that are tried at the same time."""

MOST_S = 1.0
PATIENCE_S = 20.0

State = Callable[[ExitStack, Units], tuple[str, dict[str, Any], Callable[[], bool]]]
"""Makes a server; returns its address, what else is asked, and whether EACH readers have come that far."""


@dataclass
class Reading:
    """One reader in a thread of its own."""

    url: str
    options: dict[str, Any]
    stop: threading.Event = field(default_factory=threading.Event)
    first: threading.Event = field(default_factory=threading.Event)
    fault: SourceError | None = None
    opened: bool = False
    ended_ns: int = 0

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        try:
            with open_source(request_of(self.url, **self.options), self.stop) as source:
                self.opened = True
                for _ in source.pictures():
                    self.first.set()
        except SourceError as fault:
            # As long as it lives, so do the frames it passed through: no socket may be open in them.
            self.fault = fault
        self.ended_ns = time.monotonic_ns()


def _camera(stream: Stream | None = None, **faults: Any) -> Callable[[ExitStack, Units], Camera]:
    def made(stack: ExitStack, units: Units) -> Camera:
        return stack.enter_context(Camera(units, stream or Stream(mtu=200), faults=Faults(**faults)))

    return made


def _stalled(step: str, **options: Any) -> State:
    def state(stack: ExitStack, units: Units) -> tuple[str, dict[str, Any], Callable[[], bool]]:
        camera = _camera(stall_at=step)(stack, units)

        def there() -> bool:
            return camera.until(
                lambda: (
                    camera.connections == EACH
                    if step == "ACCEPT"
                    else camera.methods().count(step) == EACH
                    if step != "PLAYING"
                    else len(camera.sent) >= 10 * EACH
                ),
                PATIENCE_S,
            )

        return camera.url, options, there

    return state


def _endless(stack: ExitStack, units: Units) -> tuple[str, dict[str, Any], Callable[[], bool]]:
    camera = _camera(endless={"DESCRIBE": "header"})(stack, units)
    return (
        camera.url,
        {},
        lambda: camera.until(lambda: camera.methods().count("DESCRIBE") == EACH, PATIENCE_S),
    )


def _playing(stack: ExitStack, units: Units) -> tuple[str, dict[str, Any], Callable[[], bool]]:
    camera = _camera()(stack, units)
    return camera.url, {}, lambda: camera.until(lambda: len(camera.sent) > 10 * EACH, PATIENCE_S)


def _without_keyframe(stack: ExitStack, units: Units) -> tuple[str, dict[str, Any], Callable[[], bool]]:
    rest = replace(units, units=tuple(unit for unit in units.units if not unit.keyframe))
    camera = _camera()(stack, rest)
    return camera.url, {}, lambda: camera.until(lambda: len(camera.sent) > 10 * EACH, PATIENCE_S)


def _silent_udp(stack: ExitStack, units: Units) -> tuple[str, dict[str, Any], Callable[[], bool]]:
    camera = _camera(blocked_udp=True)(stack, units)
    options = {"transport": Transport.UDP}
    return (
        camera.url,
        options,
        lambda: camera.until(lambda: camera.methods().count("PLAY") == EACH, PATIENCE_S),
    )


def _mute_tls(stack: ExitStack, units: Units) -> tuple[str, dict[str, Any], Callable[[], bool]]:
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    listener.settimeout(PATIENCE_S)

    def there() -> bool:
        for _ in range(EACH):
            client, _ = listener.accept()
            stack.callback(client.close)
            assert client.recv(1) == b"\x16"  # a handshake has begun
        return True

    url = f"rtsps://127.0.0.1:{listener.getsockname()[1]}/"
    return url, {"tls": Tls(verify=False)}, there


def _black_hole(stack: ExitStack, units: Units) -> tuple[str, dict[str, Any], Callable[[], bool]]:
    """The queue of connections is full: more of them are neither taken nor refused."""
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
    port = listener.getsockname()[1]
    for _ in range(4):
        filler = stack.enter_context(socket.socket())
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.1", port))
    wanted = f"0100007F:{port:04X} 02"  # remote address, SYN_SENT

    def there() -> bool:
        return _eventually(lambda: Path("/proc/self/net/tcp").read_text().count(wanted) >= EACH)

    return f"rtsp://127.0.0.1:{port}/", {}, there


def _unresolved(stack: ExitStack, units: Units) -> tuple[str, dict[str, Any], Callable[[], bool]]:
    def there() -> bool:
        return _eventually(lambda: sum(thread.name == "resolve" for thread in threading.enumerate()) == EACH)

    return "rtsp://slow.invalid/", {}, there


def _eventually(holds: Callable[[], bool]) -> bool:
    ends = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > ends:
            return False
        time.sleep(0.02)  # nothing tells of it
    return True


STATES: dict[str, State] = {
    **{step: _stalled(step) for step in ("ACCEPT", "OPTIONS", "DESCRIBE", "SETUP", "PLAY", "PLAYING")},
    "udp PLAYING": _stalled("PLAYING", transport=Transport.UDP),
    "endless": _endless,
    "playing": _playing,
    "no keyframe": _without_keyframe,
    "silent udp": _silent_udp,
    "mute tls": _mute_tls,
    "black hole": _black_hole,
    "unresolved": _unresolved,
}
OPENED = {"PLAYING", "udp PLAYING", "playing"}


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> Units:
    return units_of(
        make(tmp_path_factory.mktemp("stop") / "clip.mp4", Clip(frames=24, width=160, height=120))
    )


@pytest.fixture
def slow_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Names that end in .invalid are looked up until this is set."""
    release = threading.Event()
    real = socket.getaddrinfo

    def slow(host: Any, *arguments: Any, **options: Any) -> Any:
        if host == "slow.invalid" and not options.get("flags"):
            release.wait()
            raise socket.gaierror("no such name")
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    yield release
    release.set()


def _sockets() -> set[str]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/self/fd/{name}"))
    return {link for link in found if link.startswith(("socket:", "pipe:", "anon_inode:"))}


@contextmanager
def nothing_left(release: threading.Event) -> Iterator[None]:
    """No thread and no file descriptor more than before."""
    before, files = set(threading.enumerate()), _sockets()
    yield
    release.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), thread
    assert _sockets() - files == set()


def _stop_all(name: str, units: Units) -> tuple[str, list[Reading], list[float]]:
    with ExitStack() as stack:
        url, options, there = STATES[name](stack, units)
        readings = [Reading(url, {"timeout_s": 60.0, **options}) for _ in range(EACH)]
        try:
            assert there(), f"{name}: the readers do not come that far"
            if name in OPENED:
                for reading in readings:
                    assert reading.first.wait(PATIENCE_S), f"{name}: no picture"
        finally:
            took = []
            for reading in readings:
                asked_ns = time.monotonic_ns()
                reading.stop.set()
                reading.thread.join(PATIENCE_S)
                took.append((reading.ended_ns - asked_ns) / 1e9)
    return name, readings, took


@pytest.mark.long
def test_a_stop_ends_every_wait(units: Units, slow_names: threading.Event) -> None:
    with nothing_left(slow_names):
        with ThreadPoolExecutor(AT_ONCE) as pool:
            results = list(pool.map(lambda name: _stop_all(name, units), STATES))
        assert sum(len(took) for _, _, took in results) > 100
        for name, readings, took in results:
            assert not any(reading.thread.is_alive() for reading in readings), name
            assert max(took) < MOST_S, (name, took)
            for reading in readings:
                if name in OPENED:
                    assert (reading.fault, reading.opened) == (None, True), name
                else:
                    assert isinstance(reading.fault, SourceError), (name, reading.fault)
                    assert reading.fault.reason is Reason.OPERATOR, (name, reading.fault)
                    assert str(reading.fault).isprintable()
        # The faults still live here: what they hold on to would be open.


def test_a_stop_before_the_beginning(units: Units, slow_names: threading.Event) -> None:
    stop = threading.Event()
    stop.set()
    with nothing_left(slow_names), Camera(units) as camera:
        with pytest.raises(SourceError) as caught:
            open_source(request_of(camera.url), stop)
        assert caught.value.reason is Reason.OPERATOR


@pytest.mark.long
def test_faults_leave_nothing_behind(units: Units, slow_names: threading.Event) -> None:
    """Not even while the fault is kept."""
    faults = []
    with nothing_left(slow_names):
        for fault in (
            Faults(close_at="ACCEPT"),
            Faults(reset_at="DESCRIBE"),
            Faults(status={"SETUP": 500}),
            Faults(status={"DESCRIBE": 301}, location="self"),
            Faults(refuse="udp"),
            Faults(close_at="PLAY"),
        ):
            for secure in (False, True):
                with Camera(units, faults=fault) as camera:
                    url = camera.url.replace("rtsp:", "rtsps:") if secure else camera.url
                    with pytest.raises(SourceError) as caught:
                        open_source(
                            request_of(url, timeout_s=0.3, transport=Transport.UDP), threading.Event()
                        )
                    faults.append(caught.value)
        assert len(faults) == 12
