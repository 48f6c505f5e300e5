"""One kind of camera, and the configuration of a daemon that has so many of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamd.models.description import Description
from streamd.models.session import RuntimeOptions
from streamd.service import address
from streamd.service.config import Config, Stream
from streamd.sources import SourceRequest
from streamd.sources.address import path_of, scheme_of
from streamd.sources.source import Kind

# What the daemon's configuration may not hold as text comes to it by its environment.
_URL, _PASSWORD = "STREAMD_BENCH_URL", "STREAMD_BENCH_PASSWORD"  # pragma: allowlist secret
_PRIVATE = {"publish", "metrics", "log"}


@dataclass(frozen=True, slots=True)
class CameraKind:
    """A camera as a configuration writes it, and the sections that go with it."""

    kind: Kind
    entry: Mapping[str, Any]
    sections: Mapping[str, Any]
    """The configuration's model, runtime and batch."""
    environment: Mapping[str, str] = field(repr=False)
    """What `entry` refers to: the address, and a password if there is one."""

    @property
    def multiplies(self) -> bool:
        """Whether it can be had many times without asking anybody: a real camera serves few readers."""
        return self.kind in (Kind.FILE, Kind.TEST)

    def configuration(self, cameras: int, max_fps: float | None, endpoint: str) -> dict[str, Any]:
        """Of a daemon with so many of them that publishes at `endpoint` and does nothing else."""
        entry = dict(self.entry)
        if max_fps is not None:
            entry["max_fps"] = max_fps
        return {
            **self.sections,
            "streams": {f"camera{number}": entry for number in range(cameras)},
            "publish": {"bind": endpoint},
            "metrics": {"listen": None},
        }


def of_request(
    request: SourceRequest, description: Description, options: RuntimeOptions, asked: Mapping[str, Any]
) -> CameraKind:
    """A source as it stands on a command line. asked: head, input and size of the model, where they are set."""
    kind = address.kind_of(request.url) if scheme_of(request.url) != "file" else Kind.FILE
    url = request.url if kind is not Kind.FILE else f"file:{Path(path_of(request.url)).absolute()}"
    entry: dict[str, Any] = {"url": f"${{env:{_URL}}}", "intent": "live", "max_age_ms": None}
    environment = {_URL: url}
    if kind is Kind.FILE:
        entry |= {"pace": "media", "loop": True}
    if kind is Kind.RTSP:
        entry["transport"] = request.transport.value
    if request.username is not None:
        entry |= {"username": request.username, "password": f"${{env:{_PASSWORD}}}"}
        environment[_PASSWORD] = request.password or ""
    sections = {
        "model": {"path": str(description.path.absolute()), **asked},
        "runtime": {"providers": list(options.providers), "fallback": options.fallback},
        "batch": {"limit": options.batch_limit},
    }
    return CameraKind(kind, entry, sections, environment)


def of_stream(config: Config, stream: Stream) -> CameraKind:
    """A stream of a configuration, with its settings; a file plays as a camera would."""
    plain = config.effective()
    entry = dict(plain["streams"][stream.id])
    entry |= {"url": f"${{env:{_URL}}}", "intent": "live", "enabled": True}
    environment = {_URL: stream.url}
    if stream.kind is Kind.FILE:
        entry |= {"pace": "media", "loop": True}
    if stream.password is not None:
        entry["password"] = f"${{env:{_PASSWORD}}}"
        environment[_PASSWORD] = stream.password.get_secret_value()
    sections = {name: plain[name] for name in plain if name not in ("streams", *_PRIVATE)}
    return CameraKind(stream.kind, entry, sections, environment)
