"""HTTP(S) sources against the standard library's server, TLS checks, and devices."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from streamd.core.errors import Reason, SourceError
from streamd.sources import Source, SourceRequest, Tls, open_source
from streamd.sources.libav.chatter import forward
from streamd.sources.libav.options import rtsp_options
from tests.support.clips import Clip, make, number_in


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def http(folder: Path, certificate: Path | None = None) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        scheme = "http"
        if certificate is not None:
            scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            server.handle_error = lambda *_: None  # type: ignore[method-assign]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"{scheme}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def numbers(source: Source) -> list[int | None]:
    return [number_in(picture.planes[0]) for picture in source.pictures()]


@pytest.mark.slow
def test_a_file_over_http_ends_and_a_stream_does_not(tmp_path: Path) -> None:
    make(tmp_path / "a.mp4", Clip(container={"movflags": "faststart"}))
    make(tmp_path / "live.mkv", Clip(container={"live": "1"}))
    with http(tmp_path) as base:
        with open_source(SourceRequest(f"{base}/a.mp4"), threading.Event()) as source:
            assert not source.live
            assert numbers(source) == list(range(30))
        with open_source(SourceRequest(f"{base}/live.mkv"), threading.Event()) as source:
            assert source.live
            with pytest.raises(SourceError) as caught:
                numbers(source)
        assert caught.value.reason is Reason.EOF
        with pytest.raises(SourceError) as caught:
            open_source(SourceRequest(f"{base}/none.mp4"), threading.Event())
        assert caught.value.reason is Reason.NOT_FOUND


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    path = folder / "both.pem"
    try:
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
                *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
                *("-keyout", "key.pem", "-out", "cert.pem"),
            ],
            cwd=folder,
            check=True,
            capture_output=True,
        )
    except FileNotFoundError:
        pytest.skip("needs the openssl command: apt-get install openssl")
    path.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return path


@pytest.mark.slow
def test_a_certificate_is_checked_unless_told_otherwise(tmp_path: Path, certificate: Path) -> None:
    make(tmp_path / "a.mp4", Clip(frames=3, container={"movflags": "faststart"}))
    with http(tmp_path, certificate) as base:
        url = f"{base}/a.mp4"
        with pytest.raises(SourceError) as caught:
            open_source(SourceRequest(url), threading.Event())
        assert caught.value.reason is Reason.TLS
        for tls in (Tls(verify=False), Tls(ca=str(certificate))):
            with open_source(SourceRequest(url, tls=tls), threading.Event()) as source:
                assert numbers(source) == [0, 1, 2]


def test_what_libav_is_asked_for() -> None:
    options = rtsp_options(SourceRequest("rtsps://h/a", timeout_s=2.5, tls=Tls(ca="/ca.pem")))
    assert options["timeout"] == "2500000"
    assert options["probesize"] == "32"
    assert (options["tls_verify"], options["ca_file"]) == ("1", "/ca.pem")
    assert "fflags" not in options


@pytest.mark.parametrize("url", ["/dev/video987", "v4l2:/dev/null", "v4l2:/etc/hostname"])
def test_what_is_no_video_device_is_refused(url: str) -> None:
    with pytest.raises(SourceError, match=r"^[^\n]*/[^\n]*$") as caught:
        open_source(SourceRequest(url), threading.Event())
    assert caught.value.reason in (Reason.NOT_FOUND, Reason.ERROR, Reason.CODEC)


def test_what_libav_says_goes_to_whoever_asks_and_nowhere_else(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = make(tmp_path / "a.h264", Clip(frames=20))
    path.write_bytes(path.read_bytes()[:-40] + bytes(40))
    lines: list[str] = []
    for write in (lines.append, None):
        forward(write)
        before = len(lines)
        with pytest.raises(SourceError), open_source(SourceRequest(str(path)), threading.Event()) as source:
            numbers(source)
        assert (len(lines) > before) == (write is not None)
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_importing_the_sources_loads_no_media_library() -> None:
    code = (
        "import sys, streamd.sources.inputs; sys.exit(bool({'av', 'cv2', 'onnxruntime'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("password", ["p[w]x", "[", "]", "a[b@c", "::1]"])
def test_brackets_in_a_password_are_no_host(password: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    request = SourceRequest(f"rtsp://127.0.0.1:{port}/x", username="u", password=password, timeout_s=2)
    with pytest.raises(SourceError) as caught:
        open_source(request, threading.Event())
    assert caught.value.reason is Reason.REFUSED
    assert password not in str(caught.value) or len(password) == 1
