"""How an RTSP stream is opened: our own reader, its transports and redirects, and when libav's takes over."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from streamd.core.errors import Reason, SourceError
from streamd.sources.address import scheme_of, shown
from streamd.sources.advice import no_such_video, no_video, set_aside
from streamd.sources.libav.network import open_rtsp as open_with_libav
from streamd.sources.rtsp.connection import StoppedError
from streamd.sources.rtsp.description import Description, Track
from streamd.sources.rtsp.messages import quotable
from streamd.sources.rtsp.nal import CODECS
from streamd.sources.rtsp.session import RedirectError, Session, TransportRefusedError
from streamd.sources.rtsp.source import RtspSource
from streamd.sources.rtsp.target import Target, target_of
from streamd.sources.source import Reader, Source, SourceRequest, Transport

_MOST_REDIRECTS = 5
_MOST_ADDRESS = 2048
_UDP_PATIENCE_S = 3.0
"""How long nothing may come over UDP before TCP is tried: a firewall lets none through."""


class NotReadableError(Exception):
    """The stream is one that our own reader does not know; the message says why."""


@dataclass(slots=True)
class _Plan:
    request: SourceRequest
    stop: threading.Event
    udp: bool
    blocked: bool = False
    """Whether nothing came over UDP."""
    notes: list[str] = field(default_factory=list)


def open_rtsp(request: SourceRequest, stop: threading.Event) -> Source:
    """Open an RTSP stream with our own reader, or with libav's where ours does not know the stream.

    Blocks at most `timeout_s` for each answer of the server and for the first data, then until the first picture;
    raises within a fifth of a second of a stop. Raises SourceError: auth, not_found, refused, unreachable, tls,
    timeout, codec, eof, error, operator (stopped).
    """
    if request.reader is Reader.LIBAV:
        return open_with_libav(request, stop)
    plan = _Plan(request, stop, udp=request.transport is Transport.UDP)
    try:
        return _open_own(plan)
    except StoppedError:
        raise SourceError(Reason.OPERATOR, f"{shown(request.url)}: stopped before a picture came") from None
    except NotReadableError as why:
        if request.reader is Reader.OWN:
            raise SourceError(
                Reason.CODEC, f"{shown(request.url)}: {why}; set reader: auto, then libav reads it"
            ) from why
        source = open_with_libav(request, stop)
        source.note(f"read through libav: {why}")
        return source


def _open_own(plan: _Plan) -> Source:
    target = target_of(plan.request)
    for _ in range(_MOST_REDIRECTS + 1):
        try:
            return _over_some_transport(plan, target)
        except RedirectError as elsewhere:
            target = _redirected(plan.request, target, elsewhere.url)
    raise SourceError(
        Reason.ERROR,
        f"{shown(plan.request.url)}: redirected more than {_MOST_REDIRECTS} times; check the server",
    )


def _over_some_transport(plan: _Plan, target: Target) -> Source:
    source = _attempt(plan, target)
    if source is None:
        plan.udp = False
        plan.notes.append(f"nothing came over UDP within {_patience_s(plan.request):g} s; using TCP")
        plan.blocked = True
        source = _attempt(plan, target)
    assert source is not None
    return source


def _attempt(plan: _Plan, target: Target) -> RtspSource | None:
    """One session; None when nothing came over UDP."""
    with _closed_on_failure(Session(target, plan.request, plan.stop)) as session:
        track = _pick(session.describe(), plan.request)
        _set_up(plan, session, track)
        session.play()
        notes = plan.notes + set_aside(plan.request, live=True)
        source = RtspSource(session, track, plan.request, plan.stop, notes, plan.udp)
        patience_s = _patience_s(plan.request) if plan.udp else None
        if source.look_ahead(patience_s):
            return source
    source.close()
    return None


def _set_up(plan: _Plan, session: Session, track: Track) -> None:
    name = shown(plan.request.url)
    try:
        session.set_up(track, plan.udp)
    except TransportRefusedError:
        if plan.blocked:
            raise SourceError(
                Reason.TIMEOUT,
                f"{name}: nothing came over UDP, and the server does not send over TCP; check the firewall",
            ) from None
        if plan.request.transport is not Transport.AUTO or plan.udp:
            over = "UDP" if plan.udp else "TCP"
            raise SourceError(
                Reason.ERROR, f"{name}: the server does not send over {over}; set transport: auto"
            ) from None
        plan.udp = True
        plan.notes.append("the server refuses TCP; using UDP")
        try:
            session.set_up(track, plan.udp)
        except TransportRefusedError:
            raise SourceError(
                Reason.ERROR, f"{name}: the server sends neither over TCP nor over UDP; check its settings"
            ) from None


@contextmanager
def _closed_on_failure(session: Session) -> Iterator[Session]:
    try:
        yield session
    except BaseException:
        session.close()
        raise


def _pick(description: Description, request: SourceRequest) -> Track:
    """The asked video track; "best" is the first that we can read, or the first.

    Raises SourceError, and NotReadableError for a track that is not for us.
    """
    videos = description.videos
    if not videos:
        kinds = quotable(", ".join(sorted({track.kind for track in description.tracks})))
        raise no_video(request, [kinds])
    if request.video == "best":
        track = next((track for track in videos if _unreadable(track) is None), videos[0])
    elif 0 <= request.video < len(videos):
        track = videos[request.video]
    else:
        raise no_such_video(request, len(videos))
    why = _unreadable(track)
    if why is not None:
        raise NotReadableError(why)
    return track


def _unreadable(track: Track) -> str | None:
    """Why our own reader cannot read this track; None when it can."""
    if track.codec not in CODECS:
        return f"its codec {quotable(track.codec) or '(not named)'} is neither H264 nor H265"
    if track.secure:
        return "its media is encrypted (SRTP)"
    if track.formats.get("packetization-mode", "0") == "2":
        return "its pictures come interleaved (packetization-mode 2)"
    if track.formats.get("sprop-max-don-diff", "0") not in ("", "0"):
        return "its NAL units come out of order (sprop-max-don-diff)"
    return None


def _patience_s(request: SourceRequest) -> float:
    return min(_UDP_PATIENCE_S, request.timeout_s / 2)


def _redirected(request: SourceRequest, target: Target, url: str) -> Target:
    """Where to go on. The credentials go along to the same host only, and never from rtsps: to rtsp:."""
    name = shown(request.url)
    if len(url) > _MOST_ADDRESS:
        raise SourceError(Reason.ERROR, f"{name}: redirected to an address of {len(url)} characters")
    if scheme_of(url) not in ("rtsp", "rtsps"):
        # Without a scheme nothing tells credentials from the rest, save the @ behind them.
        elsewhere = shown(url).rpartition("@")[2][:200]
        raise SourceError(Reason.ERROR, f"{name}: redirected to {elsewhere}, which is no RTSP address")
    found = target_of(dataclasses.replace(request, url=url, username=None, password=None))
    if target.secure and not found.secure:
        raise SourceError(
            Reason.TLS, f"{name}: redirected from rtsps: to rtsp:, which would not be encrypted"
        )
    if found.host == target.host:
        return dataclasses.replace(found, username=target.username, password=target.password)
    return found
