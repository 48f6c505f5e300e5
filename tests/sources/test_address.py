"""Addresses: schemes, what is shown of them, and credentials."""

from __future__ import annotations

import pytest

from streamd.sources import SCHEMES, SourceRequest
from streamd.sources.address import path_of, scheme_of, scrub, shown, with_credentials


@pytest.mark.parametrize(
    ("url", "scheme", "path"),
    [
        ("clip.mp4", "file", "clip.mp4"),
        ("/a/b:c.mp4", "file", "/a/b:c.mp4"),
        ("12:30 gate.mp4", "file", "12:30 gate.mp4"),
        ("gate:1.mp4", "file", "gate:1.mp4"),
        ("file:clip.mp4", "file", "clip.mp4"),
        ("file:///a/clip.mp4", "file", "/a/clip.mp4"),
        ("file:file:x.mp4", "file", "file:x.mp4"),
        ("/dev/video0", "v4l2", "/dev/video0"),
        ("v4l2:/dev/video2", "v4l2", "/dev/video2"),
        ("RTSP://host/a", "rtsp", "RTSP://host/a"),
        ("ftp://host/a", "ftp", "ftp://host/a"),
    ],
)
def test_the_scheme_of_an_address(url: str, scheme: str, path: str) -> None:
    assert (scheme_of(url), path_of(url)) == (scheme, path)


def test_every_row_of_the_table_leads_to_a_function() -> None:
    import importlib

    for target in SCHEMES.values():
        module, name = target.opener.split(":")
        assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://admin:SECRET@host/a",
        "rtsp://admin:SECRET@x@host/a",
        "rtsp://host/a?user=admin&password=SECRET",
        "http://host/a?x=1&access_token=SECRET#f",
    ],
)
def test_no_secret_is_shown(url: str) -> None:
    assert "SECRET" not in shown(url)
    assert "host/a" in shown(url)
    assert "SECRET" not in scrub(f"[rtsp] cannot open {url}\n", ())


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("rtsp://admin:SEC/RET@host/a", "rtsp://admin:***@host/a"),
        ("rtsp://admin:SEC#RE?T@host:554/a", "rtsp://admin:***@host:554/a"),
        ("rtsp://ad/min:SECRET@host/a", "rtsp://ad/min:***@host/a"),
        ("rtsp://admin:12/RET@host:554/a", "rtsp://admin:***@host:554/a"),
        ("rtsp://host:554/a@b", "rtsp://host:554/a@b"),
        ("rtsp://[::1]:554/a@b", "rtsp://[::1]:554/a@b"),
        ("rtsp://host/at/12:30", "rtsp://host/at/12:30"),
    ],
)
def test_a_password_that_is_not_encoded_is_not_shown_either(url: str, seen: str) -> None:
    assert shown(url) == seen


def test_a_password_is_not_in_the_request_shown() -> None:
    assert "SECRET" not in repr(SourceRequest("rtsp://h/a", username="u", password="SECRET"))
    assert "SECRET" not in scrub("digest of SECRET failed", ("SECRET",))


def test_a_newline_in_a_name_stays_one_line() -> None:
    assert "\n" not in shown("a\nb.mp4")


@pytest.mark.parametrize(
    ("username", "password", "joined"),
    [
        (None, "x", "rtsp://h:554/a?b@c"),
        ("u", None, "rtsp://u@h:554/a?b@c"),
        ("u:x", "p:w", "rtsp://u%3Ax:p:w@h:554/a?b@c"),
        ("u", "a@b/c?d#e%f!$&", "rtsp://u:a%40b%2Fc%3Fd%23e%25f!$&@h:554/a?b@c"),
        ("u", r"\1\g<0>", r"rtsp://u:\1\g<0>@h:554/a?b@c"),
    ],
)
def test_only_what_must_be_is_encoded(username: str | None, password: str | None, joined: str) -> None:
    assert with_credentials("rtsp://h:554/a?b@c", username, password) == joined
    if username is not None:
        assert with_credentials("rtsp://old:one@h:554/a?b@c", username, password) == joined
