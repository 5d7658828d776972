"""Downloads, from a server on this machine."""

from __future__ import annotations

import base64
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest

from mossformer_jax.cli.download import download, is_url

CONTENT = bytes(range(256)) * 40


class _Handler(BaseHTTPRequestHandler):
    """The first part of the path selects the answer."""

    def do_GET(self):
        kind, _, rest = self.path.lstrip("/").partition("/")
        if kind == "redirect":
            self.send_response(302)
            self.send_header("Location", unquote(rest))
            self.end_headers()
        elif kind == "missing":
            self.send_error(404)
        elif (
            kind == "private" and self.headers.get("Authorization") != f"Basic {base64.b64encode(b'me:p@ss').decode()}"
        ):
            self.send_error(401)
        elif kind == "slow":
            self.server.stopped.wait(10)
        elif kind == "rude":
            self.wfile.write(b"what?\r\n")
        else:
            self.send_response(200)
            self.send_header("Content-Type", "text/html" if kind == "page" else "audio/wav")
            if kind == "chunked_cut":
                self.send_header("Transfer-Encoding", "chunked")
            elif kind != "no_length":
                self.send_header(
                    "Content-Length", str({"cut": len(CONTENT) + 1, "huge": 10**12}.get(kind, len(CONTENT)))
                )
            self.end_headers()
            self.wfile.write(b"2800\r\n" * (kind == "chunked_cut") + CONTENT)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.stopped = threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.stopped.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.mark.parametrize("kind", ["ok", "no_length"])
def test_a_downloaded_file_is_what_the_server_has(server, tmp_path, kind):
    path = download(f"http://{server}/{kind}/talk.wav", tmp_path)
    assert (path, path.read_bytes()) == (tmp_path / "talk.wav", CONTENT)
    assert [path.name for path in tmp_path.iterdir()] == ["talk.wav"]


@pytest.mark.parametrize(
    ("end", "name"),
    [
        ("a%20b.wav", "a b.wav"),
        ("a b.wav?x=1/c.mp3#d/e.ogg", "a b.wav"),
        ("Gespräch.flac", "Gespräch.flac"),
        ("..%2F..%2Fa.wav", "_.._a.wav"),
        ("C%3A%5Ca%00b.wav", "C__a_b.wav"),
        (".hidden.wav", "hidden.wav"),
        ("", "download"),
        ("..", "download"),
        (f"{'x' * 300}.wav", f"{'x' * 60}.wav"),
    ],
)
def test_the_name_comes_from_the_address_and_stays_in_the_folder(server, tmp_path, end, name):
    assert download(f"http://{server}/ok/{end}", tmp_path) == tmp_path / name
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_redirects_are_followed_and_the_name_is_the_first_one(server, tmp_path):
    path = download(f"http://{server}/redirect/%2Fok%2Fother.wav", tmp_path)
    assert (path.name, path.read_bytes()) == ("_ok_other.wav", CONTENT)


def test_name_and_password_are_sent(server, tmp_path):
    assert download(f"http://me:p%40ss@{server}/private/a.wav", tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing/a.wav", "the server answers 404 Not Found"),
        ("private/a.wav", "the server answers 401 Unauthorized"),
        ("redirect/file:///etc/hostname", "302 Found .*'file:///etc/hostname' is not allowed"),
        ("redirect/ftp://127.0.0.1/a.wav", r"cannot be downloaded \(unknown url type: ftp\)"),
        ("redirect/", "the server answers 302"),
        ("cut/a.wav", r"cannot be downloaded \(connection closed after 10,240 of 10,241 bytes\)"),
        ("chunked_cut/a.wav", r"cannot be downloaded \(IncompleteRead"),
        ("slow/a.wav", r"cannot be downloaded \(timed out\)"),
        ("rude/a.wav", r"cannot be downloaded \(what\?\)"),
    ],
)
def test_a_failed_download_is_one_line_without_the_password_and_leaves_nothing(server, tmp_path, path, message):
    with pytest.raises(OSError, match=message) as raised:
        download(f"http://me:secret@{server}/{path}", tmp_path, timeout=0.3)
    assert str(raised.value).startswith(f"http://{server}/{path}: ")
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["ok", "no_length"])
def test_a_file_beyond_the_limit_is_refused(server, tmp_path, kind):
    with pytest.raises(ValueError, match=r"/a\.wav: larger than the 10,239 bytes allowed"):
        download(f"http://{server}/{kind}/a.wav", tmp_path, max_bytes=len(CONTENT) - 1)
    assert list(tmp_path.iterdir()) == []
    assert download(f"http://{server}/{kind}/a.wav", tmp_path, max_bytes=len(CONTENT)).exists()


def test_a_size_beyond_the_limit_is_refused_before_anything_is_read(server, tmp_path):
    with pytest.raises(ValueError, match="larger than the 2,147,483,648 bytes allowed"):  # reading would break off
        download(f"http://{server}/huge/a.wav", tmp_path)


def test_a_web_page_is_refused(server, tmp_path):
    with pytest.raises(ValueError, match="is a web page; give the address of the audio file itself"):
        download(f"http://{server}/page/a.wav", tmp_path)


def test_a_port_where_nothing_listens_is_named(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/a.wav"
        with pytest.raises(OSError, match=rf"{address}: cannot be downloaded \(Connection refused\)"):
            download(address, tmp_path)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///etc/hostname", "it must start with http:// or https://"),
        ("ftp://host/a.wav", "it must start with http:// or https://"),
        ("http:///a.wav", "not a valid address"),
        ("http://host:port/a.wav", "not a valid address"),
        ("http://[::1/a.wav", "not a valid address"),
    ],
)
def test_an_invalid_address_is_refused(tmp_path, url, message):
    with pytest.raises(ValueError, match=message):
        download(url, tmp_path)


def test_an_invalid_host_name_is_a_one_line_error(tmp_path):
    with pytest.raises(OSError, match=r"http://a\.\.ä/a\.wav: cannot be downloaded \(.+\)"):
        download("http://a..ä/a.wav", tmp_path)


def test_addresses_are_told_from_paths():
    assert is_url("http://host/a.wav")
    assert is_url("HTTPS://host/a.wav")
    assert not any(map(is_url, ["a.wav", "http/a.wav", "file:///a.wav", "C:\\a.wav", "https:a.wav"]))
