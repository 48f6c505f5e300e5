"""Redirects, logins and encryption."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from streamd.core.errors import Reason, SourceError
from streamd.sources import Tls, open_source
from tests.support.rtsp_camera import Camera, Faults, Login
from tests.support.rtsp_film import (
    FAST,
    LONG,
    Film,
    failing,
    one_line,
    right,
)
from tests.support.rtsp_reading import fault_of, read_all, request_of

# -- redirects -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("method", ["DESCRIBE", "SETUP"])
@pytest.mark.parametrize("folded", [False, True])
def test_a_redirect_is_followed(film: Film, method: str, folded: bool) -> None:
    with Camera(film.units, FAST, Login("viewer", "secret")) as there:
        faults = Faults(status={method: 302}, location=there.url, folded=folded)
        with Camera(film.units, FAST, faults=faults) as camera:
            right(read_all(camera.url, username="viewer", password="secret"), film)


def test_redirects_without_end(film: Film) -> None:
    with Camera(film.units, LONG, faults=Faults(status={"DESCRIBE": 301}, location="self")) as camera:
        fault = failing(camera)
        assert fault.reason is Reason.ERROR
        assert "redirected more than 5 times" in str(fault)
        assert camera.connections == 6


@pytest.mark.parametrize(
    "location",
    [
        "http://u:secret@h/x",
        "u:secret@h",
        "//u:secret@h/",
        "/other",
        "rtsp://[",
        "x" * 3000,
        "file:///etc/passwd",
    ],
)
def test_redirects_to_nowhere(film: Film, location: str) -> None:
    with Camera(film.units, LONG, faults=Faults(status={"DESCRIBE": 302}, location=location)) as camera:
        assert failing(camera).reason is Reason.ERROR


def test_redirects_to_a_broken_host(film: Film) -> None:
    faults = Faults(status={"DESCRIBE": 302}, location="rtsp://a\0b/x")
    with Camera(film.units, LONG, faults=faults) as camera:
        assert failing(camera).reason is Reason.UNREACHABLE


@pytest.mark.parametrize("scheme", ["basic", "digest"])
def test_credentials_stay_with_their_host(film: Film, scheme: str) -> None:
    login = Login("viewer", "secret", (scheme,), free=())
    with Camera(film.units, LONG, login) as there:
        location = there.url.replace("127.0.0.1", "localhost")
        with Camera(film.units, LONG, faults=Faults(status={"DESCRIBE": 302}, location=location)) as camera:
            fault = failing(camera, username="viewer", password="secret")
        assert fault.reason is Reason.AUTH
        assert there.requests
        assert not [request for request in there.requests if "authorization" in request.headers]


# -- logins --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["basic", "digest", "digest-old", "digest-sha256"])
@pytest.mark.parametrize("free", [("OPTIONS",), ()])
def test_logins(film: Film, scheme: str, free: tuple[str, ...]) -> None:
    password = "p@s/s:w#o?r%d! é"
    login = Login("viewer", password, (scheme,), free=free, realm='a "b" \\ c')
    with Camera(film.units, FAST, login) as camera:
        right(read_all(camera.url, username="viewer", password=password), film)
        for wrong in ({}, {"username": "viewer", "password": "secret"}):
            fault = failing(camera, **wrong)
            assert fault.reason is Reason.AUTH


def test_stale_nonces_and_endless_refusals(film: Film) -> None:
    with Camera(film.units, FAST, Login("viewer", "secret", stale_after=1, free=())) as camera:
        right(read_all(camera.url, username="viewer", password="secret"), film)
    with Camera(film.units, FAST, Login("viewer", "secret", endless=True)) as camera:
        assert failing(camera, username="viewer", password="secret").reason is Reason.AUTH
        assert len(camera.denied) < 5


# -- encryption ----------------------------------------------------------------------------------------

Pair = tuple[Path, Path]


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Pair]:
    folder = tmp_path_factory.mktemp("certificates")

    def make_pair(name: str, *options: str) -> Pair:
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        command = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ]
        command += ["-subj", "/CN=camera", "-keyout", str(key), "-out", str(certificate), *options]
        subprocess.run(command, check=True, capture_output=True)
        return certificate, key

    return make_pair


OURS = ("-addext", "subjectAltName=IP:127.0.0.1")


def test_certificates(film: Film, certified: Callable[..., Pair]) -> None:
    pair = certified("good", "-days", "2", *OURS)
    with Camera(film.units, FAST, tls=pair) as camera:
        fault = failing(camera)
        assert fault.reason is Reason.TLS
        assert "tls: {ca: ...} or {verify: false}" in str(fault)
        right(read_all(camera.url, tls=Tls(ca=str(pair[0]))), film)
        right(read_all(camera.url, tls=Tls(verify=False)), film)
        assert failing(camera, tls=Tls(ca=str(pair[1]))).reason is Reason.TLS
        assert failing(camera, tls=Tls(ca="/no/such/file")).reason is Reason.TLS


def test_a_certificate_of_another_host(film: Film, certified: Callable[..., Pair]) -> None:
    pair = certified("other", "-days", "2", "-addext", "subjectAltName=DNS:elsewhere,IP:127.0.0.2")
    with Camera(film.units, FAST, tls=pair) as camera:
        assert failing(camera, tls=Tls(ca=str(pair[0]))).reason is Reason.TLS
        right(read_all(camera.url, tls=Tls(verify=False)), film)


_AUTHORITY = """
[ca]
default_ca = ours
[ours]
database = index.txt
rand_serial = yes
new_certs_dir = .
default_md = sha256
policy = any
x509_extensions = names
[names]
subjectAltName = IP:127.0.0.1
[any]
commonName = supplied
"""


def test_a_certificate_of_yesteryear(film: Film, certified: Callable[..., Pair], tmp_path: Path) -> None:
    _, key = certified("expired", "-days", "2", *OURS)
    (tmp_path / "index.txt").touch()
    (tmp_path / "ca.cnf").write_text(_AUTHORITY)
    # Only `openssl ca` makes what has expired already.
    for command in (
        f"openssl req -new -key {key} -subj /CN=camera -out request.pem",
        f"openssl ca -batch -config ca.cnf -selfsign -keyfile {key} -in request.pem -out expired.pem -notext"
        " -startdate 20200101000000Z -enddate 20210101000000Z",
    ):
        subprocess.run(command.split(), check=True, capture_output=True, cwd=tmp_path)
    certificate = tmp_path / "expired.pem"
    with Camera(film.units, FAST, tls=(certificate, key)) as camera:
        fault = failing(camera, tls=Tls(ca=str(certificate)))
        assert fault.reason is Reason.TLS
        assert "expired" in str(fault)
        right(read_all(camera.url, tls=Tls(verify=False)), film)


@pytest.mark.slow
def test_encryption_where_there_is_none(film: Film) -> None:
    with Camera(film.units, FAST) as camera:
        fault = one_line(fault_of(camera.url.replace("rtsp:", "rtsps:")))
    assert fault.reason in (Reason.TLS, Reason.TIMEOUT)


@pytest.mark.long
def test_encrypted_streams_stall_and_end(film: Film, certified: Callable[..., Pair]) -> None:
    pair = certified("stalling", "-days", "2", *OURS)
    trusted = Tls(ca=str(pair[0]))
    cases: dict[Reason, list[Faults]] = {
        Reason.TIMEOUT: [Faults(stall_at="ACCEPT"), Faults(stall_at="SETUP"), Faults(stall_at="PLAYING")],
        Reason.EOF: [Faults(reset_at="SETUP"), Faults(close_at="SETUP"), Faults(close_at="PLAYING")],
        # Often: a reset may show while connecting or while encrypting, and is the same fault.
        Reason.TLS: [Faults(reset_at="ACCEPT")] * 20 + [Faults(close_at="ACCEPT")],
    }
    for reason, rows in cases.items():
        for faults in rows:
            with Camera(film.units, LONG, faults=faults, tls=pair) as camera:
                assert failing(camera, tls=trusted).reason is reason, faults


def test_redirects_do_not_lead_out_of_encryption(film: Film, certified: Callable[..., Pair]) -> None:
    pair = certified("redirecting", "-days", "2", *OURS)
    with Camera(film.units, FAST) as plain:
        faults = Faults(status={"DESCRIBE": 302}, location=plain.url)
        with Camera(film.units, FAST, faults=faults, tls=pair) as camera:
            fault = failing(camera, tls=Tls(ca=str(pair[0])))
        assert fault.reason is Reason.TLS
        assert "not be encrypted" in str(fault)
        assert plain.connections == 0


def test_an_address_of_any_bytes(film: Film) -> None:
    with Camera(film.units, replace(FAST, path="/camera")) as camera:
        with pytest.raises(SourceError) as caught:
            open_source(request_of(camera.url + "/\udcff"), threading.Event())
        assert one_line(caught.value).reason is Reason.NOT_FOUND
