"""Who may look: every user and password that the RFCs allow is told right, and none is ever shown."""

from __future__ import annotations

import base64
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from streamd.core.errors import Reason, SourceError
from streamd.sources import Reader, SourceRequest, Transport, open_source
from streamd.sources.rtsp.target import target_of
from tests.support import zmq_reader
from tests.support.clips import Clip, make
from tests.support.daemon import RunningDaemon, write_config
from tests.support.number_model import make_number_model
from tests.support.rtsp_camera import Camera, Login, Stream, Units, units_of

# The two marks tell a password in a text from signs that are there anyway.
_FIRST, _LAST = "Zq7", "w9K"


def _marked(signs: str) -> str:
    return f"{_FIRST}{signs}{_LAST}"


CREDENTIALS = [
    ("viewer", _marked("")),
    ("viewer", ""),
    ("", _marked("nobody")),
    ("viewer@site", _marked("@")),
    ("viewer", _marked(":")),
    ("viewer", _marked("::@@::")),
    ("view/er", _marked("/")),
    ("view?er", _marked("?")),
    ("view#er", _marked("#")),
    ("view%er", _marked("%")),
    ("100%25", _marked("%41%2F")),
    ("viewer!", _marked("!^")),
    ("view er", _marked(" a  b ")),
    (" viewer ", f" {_FIRST} {_LAST} "),
    ('view"er', _marked('"')),
    ("view'er", _marked("''")),
    ("view\\er", _marked("\\")),
    ('"quoted"', f'"{_FIRST}\\"{_LAST}\\'),
    ("view&er", _marked("&user=x&password=y")),
    ("view;er", _marked(";a=b;")),
    ("a=b", _marked("==")),
    ("a+b", _marked("+ +")),
    ("[viewer]", _marked("[::1]")),
    ("{viewer}", _marked("{}|~")),
    ("`viewer`", _marked("`$(id)`$HOME")),
    ("vi*er,", _marked("*, qop=auth, nonce=")),
    ("é", _marked("éü")),
    ("用户", _marked("中文")),
    ("🎥", _marked("🔑👩‍👧")),
    ("u" * 200, _marked("p" * 200)),
    ("é" * 200, _marked("\\\"'@:/?#%" * 22)),
]
SCHEMES = ["basic", "digest", "digest-old", "digest-sha256"]
# What RFC 3986 lets stand in the userinfo as it is.
_RAW = "!$&'()*+,;="


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> Units:
    clip = Clip(width=64, height=48, frames=10)
    return units_of(make(tmp_path_factory.mktemp("login") / "clip.mp4", clip))


def _open(url: str, user: str | None = None, password: str | None = None) -> None:
    """To the first picture."""
    request = SourceRequest(url, user, password, reader=Reader.OWN, transport=Transport.TCP, timeout_s=5)
    with open_source(request, threading.Event()) as source:
        next(source.pictures())


def _refusal(opening: Callable[[], object]) -> SourceError:
    """The fault, after a look at that it says nothing it must not."""
    with pytest.raises(SourceError) as caught:
        opening()
    message = str(caught.value)
    assert message.isprintable()
    assert message
    whole = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    for mark in (_FIRST, _LAST, base64.b64encode(_FIRST.encode()).decode()):
        assert mark not in whole
    return caught.value


def _with_login(url: str, login: str) -> str:
    return url.replace("://", f"://{login}@", 1)


@pytest.mark.long
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("user", "password"), CREDENTIALS)
def test_what_is_allowed_is_told_right(units: Units, scheme: str, user: str, password: str) -> None:
    with Camera(units, Stream(rate=100), Login(user, password, (scheme,))) as camera:
        _open(camera.url, user, password)
        _open(_with_login(camera.url, f"{quote(user, safe='')}:{quote(password, safe='')}"))
        raw = f"{quote(user, safe=_RAW)}:{quote(password, safe=_RAW + ':')}"
        _open(_with_login(camera.url, raw))
        if not password:
            _open(_with_login(camera.url, quote(user, safe="")))
            _open(camera.url, user)
        assert set(camera.denied) == {"no credentials"}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("user", "password"), CREDENTIALS[:: len(CREDENTIALS) // 6])
def test_what_is_nearly_right_is_refused(units: Units, scheme: str, user: str, password: str) -> None:
    with Camera(units, Stream(rate=100), Login(user, "another", (scheme,))) as camera:
        fault = _refusal(lambda: _open(camera.url, user, password))
        assert fault.reason is Reason.AUTH
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        assert _refusal(lambda: _open(_with_login(camera.url, login))).reason is Reason.AUTH
        assert "password" in camera.denied


@pytest.mark.parametrize(
    "realm", ["camera", 'a "b" c', "back\\slash\\", 'Digest realm="x", Basic', "é中文", ""]
)
@pytest.mark.parametrize("one_line", [False, True])
def test_realms_of_every_kind(units: Units, realm: str, one_line: bool) -> None:
    login = Login(
        "viewer", _marked("@"), ("basic", "digest", "digest-sha256"), realm=realm, one_line=one_line
    )
    with Camera(units, Stream(rate=100), login) as camera:
        _open(camera.url, "viewer", _marked("@"))
        assert camera.denied == ["no credentials"]
        given = [request.headers.get("authorization", "") for request in camera.requests]
        assert all("SHA-256" in text for text in given[2:])


def test_bytes_that_are_no_utf8_reach_the_camera(units: Units) -> None:
    """An older camera's password may be Latin-1; only its bytes can be compared."""
    with Camera(units, Stream(rate=100), Login("viewer", "other", ("basic",))) as camera:
        _refusal(lambda: _open(_with_login(camera.url, f"caf%E9:{_marked('%FC')}")))
        _refusal(lambda: _open(camera.url, "caf\udce9", _marked("\udcfc")))
        expected = b"caf\xe9:" + _marked("\udcfc").encode("utf-8", "surrogateescape")
        given = [request.headers.get("authorization") for request in camera.requests]
        assert given.count("Basic " + base64.b64encode(expected).decode()) == 2
    for scheme in SCHEMES[1:]:
        with Camera(units, Stream(rate=100), Login("viewer", "other", (scheme,))) as camera:
            _refusal(lambda: _open(camera.url, "caf\udce9", _marked("\udcfc")))
            assert camera.denied[-1] == "user"


def test_a_user_with_a_colon_has_no_basic_login(units: Units) -> None:
    with Camera(units, Stream(rate=100), Login("a:b", _marked(""), ("basic",))) as camera:
        for opening in (
            lambda: _open(camera.url, "a:b", _marked("")),
            lambda: _open(_with_login(camera.url, f"a%3Ab:{_marked('')}")),
        ):
            fault = _refusal(opening)
            assert fault.reason is Reason.AUTH
            assert "colon" in str(fault)
    for scheme in SCHEMES[1:]:
        with Camera(units, Stream(rate=100), Login("a:b", _marked(""), (scheme,))) as camera:
            _open(camera.url, "a:b", _marked(""))
            _open(_with_login(camera.url, f"a%3Ab:{_marked('')}"))


@pytest.mark.parametrize("sign", ["\n", "\r", "\r\nX-Evil: 1", "\0", "\t", "\x1b[31m", "\x7f"])
@pytest.mark.parametrize("encoded", [False, True])
def test_control_characters_are_refused(units: Units, sign: str, encoded: bool) -> None:
    with Camera(units) as camera:
        for user, password in (("viewer", _marked(sign)), ("viewer" + sign, _marked(""))):
            if encoded:
                url = _with_login(camera.url, f"{quote(user)}:{quote(password)}")
                fault = _refusal(lambda: _open(url))  # noqa: B023
            else:
                fault = _refusal(lambda: _open(camera.url, user, password))  # noqa: B023
            assert fault.reason is Reason.AUTH
            assert "control character" in str(fault)
        assert camera.connections == 0


@pytest.mark.parametrize("escape", ["%", "%4-", "%zz", "%%41", "%4é"])
def test_a_bad_percent_escape_is_refused(units: Units, escape: str) -> None:
    with Camera(units) as camera:
        for login in (f"viewer:{_marked(escape)}", f"view{escape}er:{_marked('')}"):
            fault = _refusal(lambda: _open(_with_login(camera.url, login)))  # noqa: B023
            assert fault.reason is Reason.AUTH
            assert "%25" in str(fault)
        assert camera.connections == 0


@pytest.mark.parametrize("sign", ["/", "?", "#", "/x?y#z", "/:"])
def test_delimiters_in_the_address_are_refused(sign: str) -> None:
    """With a raw slash the address ends before its password: what remains must not be shown as a path."""
    url = _with_login("rtsp://camera.invalid:554/live", f"viewer:{_marked(sign)}")
    fault = _refusal(lambda: _open(url))
    assert "username and password" in str(fault)
    assert fault.reason is Reason.ERROR


@pytest.mark.parametrize("sign", ["/", "?", "#"])
def test_a_user_with_a_delimiter_makes_another_address_that_is_shown_without_the_password(sign: str) -> None:
    """By RFC 3986 `rtsp://a/b:word@host` is the host "a": it cannot be refused, only not be found."""
    url = _with_login("rtsp://camera.invalid:554/live", f"viewer.invalid{sign}x:{_marked('')}")
    _refusal(lambda: _open(url))


@pytest.mark.parametrize(("user", "password"), CREDENTIALS)
def test_neither_request_nor_target_shows_the_password(user: str, password: str) -> None:
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    for request in (
        SourceRequest("rtsp://camera/live", user, password),
        SourceRequest(f"rtsp://{login}@camera/live"),
    ):
        target = target_of(request)
        assert (target.username, target.password) == (user, password)
        shown = f"{target} {target!r}"
        if request.password is not None:
            shown += f"{request} {request!r}"
        assert _FIRST not in shown
        assert _LAST not in shown


@pytest.mark.long
def test_the_daemon_never_shows_a_password(tmp_path: Path, units: Units) -> None:
    logins = {
        "basic": ("viewer", _marked('p@ss:w/rd?#%41 "')),
        "digest": ("vi\"e\\w'er", _marked("$(id) `{x}` &;|\\")),
        "sha": ("用户@x", _marked("密码🔑%2F:@")),
    }
    scheme = {"basic": "basic", "digest": "digest", "sha": "digest-sha256"}
    cameras = {
        name: Camera(units, Stream(rate=20), Login(*login, (scheme[name],))) for name, login in logins.items()
    }
    streams: dict[str, dict[str, object]] = {
        name: {
            "url": cameras[name].url,
            "username": user,
            "password": password,
            "reader": "own",
            "max_age_ms": 5000,
        }
        for name, (user, password) in logins.items()
    }
    streams["sha"]["password"] = "${env:CAMERA_PASSWORD}"
    streams["wrong"] = {**streams["basic"], "password": _marked("wr@ng/")}
    try:
        model = make_number_model(tmp_path / "number.onnx")
        config = write_config(tmp_path / "c.yaml", model, streams, log={"level": "debug"})
        with (
            RunningDaemon(config, {"CAMERA_PASSWORD": logins["sha"][1]}) as daemon,
            zmq_reader.Reader(daemon.endpoint) as reader,
        ):
            assert reader.wait(
                lambda messages: (
                    {f"streamd/{name}/results" for name in logins} <= {topic for topic, _ in messages}
                    and any(m.get("stream") == "wrong" and m.get("reason") == "auth" for _, m in messages)
                ),
                60,
            )
            shown = daemon.page("/metrics") + daemon.page("/streams")
            process = psutil.Process(daemon.process.pid)
            shown += " ".join([*process.cmdline(), process.name()])
            # A camera that goes away: what is logged then, and when it is tried again, counts as well.
            before = cameras["digest"].connections
            cameras["digest"].drop()
            assert cameras["digest"].until(lambda: cameras["digest"].connections > before, 30)
            assert daemon.stop() == 0
    finally:
        for camera in cameras.values():
            camera.close()
    shown += "\n".join(daemon.log) + str(reader.messages)
    for mark in (_FIRST, _LAST, base64.b64encode(_FIRST.encode()).decode()):
        assert mark not in shown
