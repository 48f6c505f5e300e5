"""What a server, or the way to it, may do to a download."""

from __future__ import annotations

import socket
import subprocess
import threading
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from streamd.core.errors import FetchError
from streamd.models import download
from streamd.models.download import Watch
from streamd.models.pulling import pull
from streamd.models.store import ModelStore
from tests.support.fetched import CONTENT, OTHER, made, names, store
from tests.support.model_server import Answer, ModelServer

pytestmark = pytest.mark.usefixtures("no_proxy")


def test_a_connection_that_is_cut_is_followed_by_one_for_the_rest(tmp_path: Path) -> None:
    cuts = [Answer(cut_after=at) for at in (100_000, 1, 50_000)]
    with ModelServer(CONTENT, *cuts) as server:
        assert pull(store(tmp_path, server), made(), Watch()).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", "bytes=100001-", "bytes=150001-"]
    assert server.sent == len(CONTENT), "nothing was sent twice"


def test_a_server_that_cuts_every_connection_is_given_up(tmp_path: Path) -> None:
    with ModelServer(CONTENT, *[Answer(cut_after=1)] * 20) as server:
        with pytest.raises(FetchError, match="after 5 of 300000 bytes"):
            pull(store(tmp_path, server), made(), Watch())
        assert len(server.asked) == 5


def test_a_server_without_ranges_sends_all_of_it_again(tmp_path: Path) -> None:
    with ModelServer(CONTENT, Answer(cut_after=200_000), Answer(ranges=False)) as server:
        assert pull(store(tmp_path, server), made(), Watch()).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=200000-"]


def test_a_body_of_unknown_length_and_one_in_chunks_are_taken(tmp_path: Path) -> None:
    chunks = (
        b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (CONTENT[:7], CONTENT[7:])) + b"0\r\n\r\n"
    )
    unknown = Answer(headers={"Content-Length": ""})
    chunked = Answer(body=chunks, headers={"Content-Length": "", "Transfer-Encoding": "chunked"})
    with ModelServer(CONTENT, unknown, chunked) as server:
        for folder in ("a", "b"):
            assert pull(store(tmp_path / folder, server), made(), Watch()).read_bytes() == CONTENT


PAGE = Answer(body=b"<html>log in</html>", headers={"Content-Type": "text/html; charset=utf-8"})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(status=404), "it answered 404 Not Found"),
        (Answer(status=503), "it answered 503 Service Unavailable"),
        (Answer(status=299), "it answered 299"),
        (Answer(status=206), "it answered 206 Partial Content"),  # nobody asked for a part
        (PAGE, "a web page instead of the file"),
        (Answer(body=CONTENT[:-1]), "299999 bytes where 300000 were expected"),
        (Answer(headers={"Content-Length": "9" * 5000}), f"another file: {'9' * 20} bytes"),
        (Answer(headers={"Content-Length": "-1"}), "-1 bytes where 300000"),
        (Answer(body=b"", headers={"Content-Length": "300000"}), "ended after 0 of 300000 bytes"),
        (Answer(status=302), "it answered 302 Found"),
        (Answer(status=302, headers={"Location": "file:///etc/passwd"}), "redirects to file://, and only https"),
        (Answer(status=307, headers={"Location": "ftp://h/x?token=hush"}), "redirects to ftp://h, and only"),
        (Answer(status=308, headers={"Location": "https://me:hush@h/"}), "only https without a user"),
        (Answer(status=301, headers={"Location": "https://[::hush/"}), "redirects to what is no address"),
    ],
)  # fmt: skip
def test_what_is_not_the_file_is_refused(tmp_path: Path, answer: Answer, said: str) -> None:
    with ModelServer(CONTENT, answer) as server:
        models = store(tmp_path, server)
        with pytest.raises(FetchError) as caught:
            pull(models, made(), Watch())
    message = str(caught.value)
    assert said in message
    assert "hush" not in message
    assert "\n" not in message
    assert len(message) < 600
    assert len(server.asked) == 1
    assert models.flaw(made()) == ""


def test_a_server_that_goes_round_in_circles_is_left(tmp_path: Path) -> None:
    with ModelServer(CONTENT) as server:
        server.answers = [Answer(status=302, headers={"Location": f"{server.url}/again"})] * 50
        with pytest.raises(FetchError, match="302 Found"):
            pull(store(tmp_path, server), made(), Watch())
        assert len(server.asked) < 20


def test_a_redirect_to_another_server_is_followed_with_the_range(tmp_path: Path) -> None:
    with (
        ModelServer(CONTENT) as behind,
        ModelServer(
            b"",
        ) as server,
    ):
        models = store(tmp_path, server)
        server.answers = [Answer(status=302, headers={"Location": f"{behind.url}/x?signature=1"})] * 2
        behind.answers = [Answer(cut_after=1000)]
        assert pull(models, made(), Watch()).read_bytes() == CONTENT
    assert behind.ranges == [None, "bytes=1000-"]


def test_an_endless_body_is_read_no_further_than_the_size(tmp_path: Path) -> None:
    with ModelServer(CONTENT, Answer(endless=True), Answer(endless=True, body=OTHER)) as server:
        models = store(tmp_path, server)
        assert pull(models, made(), Watch()).read_bytes() == CONTENT
        models.path(made()).unlink()
        with pytest.raises(FetchError, match="tampered with"):
            pull(models, made(), Watch())
    assert names(models) == ["made.lock"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "odd",
    [
        Answer(status=416),
        Answer(status=206, headers={"Content-Range": "bytes 0-299999/300000"}),
        Answer(status=206, headers={"Content-Range": f"bytes 1000-{9 * 10**9}/{10**10}"}),
        Answer(status=206, headers={"Content-Range": ""}),
    ],
)
def test_a_server_whose_ranges_are_of_no_use_is_asked_for_all(tmp_path: Path, odd: Answer) -> None:
    with ModelServer(CONTENT, Answer(cut_after=1000), odd) as server:
        assert pull(store(tmp_path, server), made(), Watch()).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000-", None]


@pytest.mark.slow
def test_a_silent_server_is_left_after_the_time_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT_S", 0.2)
    with ModelServer(CONTENT, Answer(hold_after=1000), Answer(hold_after=0)) as server:
        models = store(tmp_path, server)
        with pytest.raises(FetchError, match=r"after 1000 of 300000 bytes: no answer for 0\.2 s"):
            pull(models, made(), Watch())
        assert server.ranges == [None, "bytes=1000-"]
        with socket.create_server(("127.0.0.1", 0)) as mute:  # takes connections and says nothing
            silent = replace(models, mirror=f"http://127.0.0.1:{mute.getsockname()[1]}")
            with pytest.raises(FetchError, match="no answer for"):
                pull(silent, made(), Watch())


@pytest.mark.parametrize("rubbish", [b"\0\xff\r\n\r\n", b"SSH-2.0-x\r\n", b"HTTP/1.1 abc\r\n\r\n", b""])
def test_what_is_no_http_is_refused(tmp_path: Path, rubbish: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            client, _ = server.accept()
            with client:
                client.recv(1 << 16)
                client.sendall(rubbish)

        thread = threading.Thread(target=answer)
        thread.start()
        models = ModelStore(tmp_path, f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(FetchError, match=r"not HTTP|closed connection"):
            pull(models, made(), Watch())
        thread.join()


def test_without_a_network_one_line_says_what_to_copy_where(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    models = ModelStore(tmp_path / "models")
    with pytest.raises(FetchError) as caught:
        pull(models, made(address=f"http://127.0.0.1:{port}/made.onnx"), Watch())
    assert str(caught.value) == (
        f"made cannot be fetched: Connection refused; try again, or fetch http://127.0.0.1:{port}/made.onnx on "
        f"another machine and copy it to {tmp_path}/models/made.onnx"
    )
    with pytest.raises(FetchError, match=r"made cannot be fetched from http://nobody\.invalid/made\.onnx: "):
        pull(ModelStore(tmp_path, "http://nobody.invalid/"), made(), Watch())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", "key.pem", "-out", "cert.pem"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    both = folder / "both.pem"
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return both


@pytest.mark.slow
def test_https_is_checked_and_leads_to_https_only(
    tmp_path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ModelServer(CONTENT, certificate=certificate) as server, ModelServer(CONTENT) as plain:
        models = store(tmp_path, server)
        with pytest.raises(FetchError, match="certificate is not trusted: self-signed"):
            pull(models, made(), Watch())
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        server.answers = [Answer(status=302, headers={"Location": plain.url})]
        with pytest.raises(FetchError, match=r"it redirects to http://127\.0\.0\.1, and only https"):
            pull(models, made(), Watch())
        assert plain.asked == []
        server.answers = [Answer(status=302, headers={"Location": f"{server.url}/elsewhere"})]
        assert pull(models, made(), Watch()).read_bytes() == CONTENT
        # From one's own http mirror the way leads to https as well.
        plain.answers = [Answer(status=302, headers={"Location": server.url})]
        assert pull(store(tmp_path / "b", plain), made(), Watch()).read_bytes() == CONTENT


def test_a_proxy_of_the_environment_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ModelServer(CONTENT) as proxy:
        at = urlsplit(proxy.url).netloc
        monkeypatch.setenv("http_proxy", f"http://user:hush@{at}")
        monkeypatch.setenv("no_proxy", "")
        models = ModelStore(tmp_path, "http://nobody.invalid/models")
        assert pull(models, made(), Watch()).read_bytes() == CONTENT
        assert proxy.asked == [("http://nobody.invalid/models/made.onnx", None)]
        models.path(made()).unlink()
        proxy.answers = [Answer(status=407)]
        with pytest.raises(FetchError, match="407 Proxy Authentication Required") as caught:
            pull(models, made(), Watch())
        assert "hush" not in str(caught.value)
