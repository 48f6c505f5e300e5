"""What an `rtsp_camera.Camera` is asked to be: its stream, its login and its faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tests.support.rtp_packets import Dress

Step = Literal["ACCEPT", "OPTIONS", "DESCRIBE", "SETUP", "PLAY", "PLAYING", "GET_PARAMETER", "TEARDOWN"]
Endless = Literal["header", "line", "body", "body-no-length"]
Control = Literal["relative", "absolute", "star", "query", "relative-query", "none"]


@dataclass(frozen=True)
class Stream:
    """How a good camera plays. "Unit n" counts the units sent, over all loops."""

    path: str = "/camera"
    """Of its URL; may have a query, which requests need not repeat."""
    rate: float | None = None
    """Units per second, in sending and in timestamps; None: the clip's own."""
    pace: bool = True
    """Send at `rate`; else as fast as the transport takes it."""
    loop: bool = True
    """Begin again after the last unit; else see `at_end`."""
    at_end: Literal["bye+close", "bye", "close", "silence"] = "bye+close"
    """After the last unit: RTCP BYE, closing the connection, both or neither."""
    mtu: int = 1400
    """Largest RTP packet in bytes, with a plain header."""
    aggregate: bool = True
    """Small NAL units share packets (STAP-A, AP)."""
    first_sequence: int | None = None
    """Sequence number of the first packet; None: random."""
    timestamp_offset: int | None = None
    """RTP timestamp of pts 0; None: random."""
    in_band: bool = True
    """Parameter sets before every keyframe."""
    sprop: bool = True
    """Parameter sets in the SDP."""
    reports_s: float | None = 1.0
    """Seconds between sender reports; None: none at all."""
    first_report_s: float = 0.0
    """Seconds from PLAY to the first sender report; 0: before the first packet."""
    clock_offset_s: float = 0.0
    """What the camera's clock is ahead of this machine's in its sender reports."""
    clock_jump: tuple[int, float] | None = None
    """(n, seconds): from unit n on the camera's clock is ahead by that much more."""
    audio: Literal["before", "after"] | None = None
    """A PCMU track before or after the video in the SDP; silence is sent when it is set up."""
    control: Control = "relative"
    """The control URLs in the SDP; "query": absolute with a query, "star": `*` for the video as well."""
    content_base: str | None = "{url}/"
    """Content-Base of DESCRIBE, "{url}" standing for the URL; None: no such header."""
    channels: int | None = None
    """First interleaved channel, whatever the client asks for; None: as it asks."""
    timeout_s: int = 60
    """The timeout in the Session header."""
    expire: Literal["never", "requests", "requests+rtcp"] = "never"
    """Close when for `timeout_s` came no request (or RTCP packet either)."""
    rtp_info: bool = True
    """PLAY is answered with RTP-Info."""


@dataclass(frozen=True)
class Login:
    """Who may read. Credentials count as UTF-8.

    schemes, in the order offered: "basic", "digest" (MD5, qop=auth), "digest-old" (MD5, neither qop nor
    algorithm: RFC 2069), "digest-sha256" (qop=auth).
    """

    user: str
    password: str
    schemes: tuple[str, ...] = ("digest",)
    realm: str = "camera"
    """Sent as a quoted string: quotes and backslashes are escaped."""
    one_line: bool = False
    """All challenges in one WWW-Authenticate header; else each has its own."""
    stale_after: int | None = None
    """Requests a nonce is good for; then 401 with stale=true and a new nonce."""
    endless: bool = False
    """401 with a new nonce, whatever the credentials."""
    free: tuple[str, ...] = ("OPTIONS",)
    """Methods that need no credentials."""


@dataclass(frozen=True)
class Faults:
    """What goes wrong. Steps are request methods, "ACCEPT" (before TLS) or "PLAYING" (at unit `after_units`)."""

    # -- the connection
    stall_at: Step | None = None
    """No word any more from this step on; PLAYING: no media, requests are still answered."""
    reset_at: Step | None = None
    """TCP reset in place of the answer."""
    close_at: Step | None = None
    """Orderly close in place of the answer."""
    after_units: int = 10
    """The unit before which `stall_at`, `reset_at`, `close_at` PLAYING and `half_packet` act."""
    deaf: bool = False
    """From `after_units` on requests are not answered."""
    segment: int | None = None
    """All is written in pieces of 1 to this many bytes."""

    # -- answers
    status: Mapping[str, int] = field(default_factory=dict)
    """Method to status code, in place of doing what is asked."""
    location: str | None = None
    """Location of those answers; "self": the URL of the request."""
    raw: Mapping[str, bytes] = field(default_factory=dict)
    """Method to bytes that are sent as the answer."""
    endless: Mapping[str, Endless] = field(default_factory=dict)
    """Method to what has no end: header lines, one header line, a body with a huge or no Content-Length."""
    drip_s: float = 0.02
    """Seconds between the pieces of `endless`; 0: as fast as possible."""
    delay_s: Mapping[str, float] = field(default_factory=dict)
    """Method to seconds before its answer."""
    cseq: Callable[[int], int | None] | None = None
    """CSeq of the answer from that of the request; None: no such header."""
    session_header: bool = True
    """Whether the answer to SETUP and those after it have a Session header."""
    lower_case: bool = False
    """Header names in lower case."""
    odd_space: bool = False
    """Blanks and tabs about the values of headers."""
    folded: bool = False
    """Values of headers begin on a continuation line, and lists have one per entry."""
    bare_lf: bool = False
    """Lines of heads and SDP end with LF."""
    sdp: Callable[[str], str] | None = None
    """Edits the SDP."""
    answer: Callable[[str, bytes], bytes] | None = None
    """Edits an answer as it goes out: (method, whole answer)."""
    refuse: Literal["tcp", "udp"] | None = None
    """A transport that SETUP answers with 461."""
    server_requests: tuple[str, ...] = ()
    """Methods of requests sent to the client, one before every `server_request_every`th unit."""
    server_request_every: int = 5

    # -- interleaved frames
    garbage: bytes = b""
    """Written before every `garbage_every`th frame."""
    garbage_every: int = 7
    frame_size: Callable[[int, int], int] | None = None
    """The size in a frame's header: (index of the frame, its right size)."""
    half_packet: Literal["silence", "close"] | None = None
    """Half a frame at unit `after_units`, then this."""
    coalesce: int = 1
    """Frames per write; what a unit leaves over goes with its last."""

    # -- packets of video, counted from 0
    marker: Literal["right", "none", "all"] | Callable[[int, bool], bool] = "right"
    """The marker bit; a callable has (index, the right one)."""
    lose: float | Callable[[int], bool] = 0.0
    """Packets that are not sent: a share, or by index."""
    duplicate: float | Callable[[int], bool] = 0.0
    """Packets sent twice; UDP only."""
    reorder: int = 0
    """Packets come up to this many places late, the first one excepted; UDP only."""
    seed: int = 0
    """Of all that is left to chance here."""
    blocked_udp: bool = False
    """UDP is agreed on and nothing is sent over it."""
    sequence_jump: tuple[int, int] | None = None
    """(n, step): from unit n on sequence numbers are off by that much more."""
    timestamp_jump: tuple[int, int] | None = None
    """(n, ticks): from unit n on timestamps are off by that much more."""
    ssrc_change: int | None = None
    """From this unit on another SSRC, with new random sequence number and timestamp offset."""
    payload_type: int | None = None
    """Payload type of the packets, other than the announced 96."""
    dress: Dress = field(default_factory=Dress)
    """Padding, CSRCs and header extension of every packet."""
