from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from streamd.core.secrets import Redactor

NASTY = ["p@ss", "a:b/c?d#e", "100%", "sp ace", 'q"uote', "back\\slash", "ünïcode", "x!^y'z", "%41%42"]


@pytest.mark.parametrize("secret", NASTY)
def test_a_secret_is_hidden_in_every_form_it_takes(secret: str) -> None:
    redact = Redactor([secret])
    forms = [
        secret,
        quote(secret),
        quote(secret, safe=""),
        repr(secret),
        json.dumps(secret, ensure_ascii=False),
    ]
    for form in forms:
        shown = redact(f"before {form} after")
        assert secret not in shown
        assert quote(secret, safe="") not in shown
        assert shown.startswith("before ")
        assert shown.endswith(" after")


@pytest.mark.parametrize("secret", [secret for secret in NASTY if not set(secret) & set(" '\"")])
def test_the_user_part_of_an_unknown_url_is_hidden(secret: str) -> None:
    shown = Redactor()(f"opening rtsp://admin:{secret}@10.0.0.5/stream1 failed")
    assert secret not in shown
    assert "admin" not in shown
    assert "10.0.0.5/stream1" in shown


def test_a_url_without_a_user_stays_whole() -> None:
    url = "rtsp://10.0.0.5:554/stream1?channel=1"
    assert Redactor(["x-secret"])(url) == url


def test_the_empty_secret_hides_nothing() -> None:
    assert Redactor([""])("plain") == "plain"
