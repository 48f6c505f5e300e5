"""An RTSP 1.0 camera for tests, which misbehaves on request.

    units = units_of(clip)
    with Camera(units, Stream(rate=50), Login("viewer", "secret"), Faults(lose=0.05)) as camera:
        camera.url  # rtsp://127.0.0.1:PORT/camera
        camera.until(lambda: len(camera.sent) > 10)

`Camera(units)` is a perfectly good one: it plays the clip for ever, to each client from its first unit.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from tests.support.camera_login import Gate
from tests.support.camera_options import Faults, Login, Stream
from tests.support.camera_talk import Talk
from tests.support.camera_wire import Record, Report, Request, Sent, Wire
from tests.support.rtp_packets import AccessUnit, Dress, Units, units_of

_JOIN_S = 5.0


class Camera:
    """One camera on 127.0.0.1, listening from its making until `close`.

    port: 0 for any free one. tls: certificate and key files (PEM), for rtsps. faulty_connections: the faults
    are those of the first so many connections; the ones after them find a good camera.
    """

    def __init__(
        self,
        units: Units,
        stream: Stream | None = None,
        login: Login | None = None,
        faults: Faults | None = None,
        *,
        port: int = 0,
        tls: tuple[Path | str, Path | str] | None = None,
        faulty_connections: int | None = None,
    ) -> None:
        self._units = units
        self._stream = stream or Stream()
        self._faults = faults or Faults()
        self._faulty = faulty_connections
        self._gate = Gate(login) if login is not None else None
        self._tls: ssl.SSLContext | None = None
        if tls is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(*tls)
        self._record = Record()
        self._closing = threading.Event()
        self._talks: list[tuple[Talk, threading.Thread]] = []
        self._open = 0
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def url(self) -> str:
        """Its address, without credentials."""
        scheme = "rtsp" if self._tls is None else "rtsps"
        return f"{scheme}://127.0.0.1:{self.port}{self._stream.path}"

    @property
    def requests(self) -> list[Request]:
        """All requests that were read, in their order."""
        return self._record.requests

    @property
    def answers(self) -> list[bytes]:
        """What clients answered to the camera's own requests: heads and bodies."""
        return self._record.answers

    @property
    def reports(self) -> list[Report]:
        """RTCP packets that came from clients."""
        return self._record.reports

    @property
    def sent(self) -> list[Sent]:
        """Units that were sent, over all connections."""
        return self._record.sent

    @property
    def denied(self) -> list[str]:
        """Why requests were answered with 401."""
        return self._gate.denied if self._gate is not None else []

    @property
    def connections(self) -> int:
        """Connections accepted so far."""
        return len(self._talks)

    @property
    def connected(self) -> int:
        """Connections that are open."""
        return self._open

    def methods(self) -> list[str]:
        """The methods of the requests so far."""
        return [request.method for request in self.requests]

    def until(self, holds: Callable[[], bool], timeout: float = 5.0) -> bool:
        """Wait until it holds of what is recorded; False if it does not in time."""
        return self._record.until(holds, timeout)

    def drop(self) -> None:
        """Reset every connection; new ones are accepted."""
        for talk, _ in list(self._talks):
            talk.wire.reset()

    def close(self) -> None:
        """Stop listening and close every connection."""
        self._closing.set()
        # Closing alone would leave a thread that is in accept() there.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(_JOIN_S)
        self._listener.close()
        for talk, _ in self._talks:
            talk.wire.close()
        for _, thread in self._talks:
            thread.join(_JOIN_S)
            assert not thread.is_alive(), "a connection of the camera does not end"

    def __enter__(self) -> Camera:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            number = len(self._talks)
            good = self._faulty is not None and number >= self._faulty
            faults = Faults() if good else self._faults
            wire = Wire(client, faults.segment, faults.seed)
            talk = Talk(
                self._units,
                self._stream,
                faults,
                wire=wire,
                gate=self._gate,
                record=self._record,
                url=self.url,
                number=number,
            )
            thread = threading.Thread(target=self._serve, args=(talk,), daemon=True)
            with self._record.change():
                self._talks.append((talk, thread))
                self._open += 1
            thread.start()

    def _serve(self, talk: Talk) -> None:
        try:
            talk.run(self._tls)
        finally:
            with self._record.change():
                self._open -= 1


__all__ = [
    "AccessUnit",
    "Camera",
    "Dress",
    "Faults",
    "Login",
    "Report",
    "Request",
    "Sent",
    "Stream",
    "Units",
    "units_of",
]
