"""A stand-in for both hubs on the loopback: the parts of their HTTP interfaces that downloads use."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Repository:
    """Files by path, and the revisions that exist. `digests` overrides what the hub lists."""

    files: dict[str, bytes]
    commit: str = "c0ffee00" * 5
    revisions: tuple[str, ...] = ("main", "master", "v1.0")
    digests: dict[str, str] = field(default_factory=dict)

    def digest(self, name: str) -> str:
        return self.digests.get(name) or hashlib.sha256(self.files[name]).hexdigest()


class HubServer:
    """The server. Faults apply to the contents of files, by name.

    Attributes:
        repositories: by "owner/name".
        requests: method, path and Range header of every request.
        refused: HTTP status instead of a file.
        cut_after: bytes after which the connection is closed, each time.
        stall_after: bytes after which nothing more is sent until `released` is set.
    """

    def __init__(self):
        self.repositories: dict[str, Repository] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.refused: dict[str, int] = {}
        self.cut_after: dict[str, int] = {}
        self.stall_after: dict[str, int] = {}
        self.uploads: dict[str, bytes] = {}
        self.released = threading.Event()
        hub = self

        class Handler(_Handler):
            server_hub = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def downloads(self) -> list[tuple[str, str | None]]:
        """The names of the files whose contents were asked for, with the Range header."""
        named = []
        for method, path, start in self.requests:
            parts = urlsplit(path)
            if method == "GET" and "FilePath" in parts.query:
                named.append((parse_qs(parts.query)["FilePath"][0], start))
            elif method == "GET" and "/resolve/" in parts.path:
                named.append((parts.path.rpartition("/")[2], start))
        return named


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_hub: HubServer

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def do_POST(self):
        """An upload with Hugging Face's client: a repository, how each file is sent, large files, a commit."""
        hub = self.server_hub
        hub.requests.append((self.command, self.path, None))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != "Bearer hf_right":
            self.send_json({"error": "Invalid credentials"}, 401)
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            hub.repositories.setdefault(name, Repository({}))
            self.send_json({"url": f"{hub.address}/{name}", "name": name, "id": "1"})
        elif "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = {name: "lfs" if name.endswith(".safetensors") else "regular" for name in names}
            self.send_json({"files": [{"path": n, "uploadMode": m, "shouldIgnore": False} for n, m in modes.items()]})
        elif self.path.endswith("/objects/batch"):
            asked = json.loads(body)["objects"]
            action = [{"upload": {"href": f"{hub.address}/upload/{one['oid']}", "header": {}}} for one in asked]
            objects = [{**one, "actions": actions} for one, actions in zip(asked, action, strict=True)]
            self.send_json({"transfer": "basic", "objects": objects})
        elif "/commit/" in self.path:
            name = self.path.removeprefix("/api/models/").partition("/commit/")[0]
            repository = hub.repositories[name]
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    repository.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                elif entry["key"] == "lfsFile":
                    repository.files[entry["value"]["path"]] = hub.uploads[entry["value"]["oid"]]
            url = f"{hub.address}/{name}/commit/{repository.commit}"
            self.send_json(
                {"commitUrl": url, "commitOid": repository.commit, "commitMessage": "", "pullRequestUrl": None}
            )
        else:
            self.send_json({})

    def do_PUT(self):
        self.server_hub.uploads[self.path.rpartition("/")[2]] = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_json({})

    def answer(self) -> None:
        hub = self.server_hub
        hub.requests.append((self.command, self.path, self.headers.get("Range")))
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), {key: value[0] for key, value in parse_qs(parts.query).items()}
        if path.startswith("/api/v1/models/"):
            owner, name, what = path.removeprefix("/api/v1/models/").split("/", 2)
            repository = hub.repositories.get(f"{owner}/{name}")
            if repository is None or query["Revision"] not in repository.revisions:
                self.send_json({"Code": 10010205001, "Message": "not found"}, 404)
            elif what == "repo/files":
                self.send_json({"Code": 200, "Data": {"Files": modelscope_entries(repository)}, "Success": True})
            else:
                self.send_file(repository, query["FilePath"], {})
        elif path.startswith("/api/models/"):
            owner, name, *revision = path.removeprefix("/api/models/").split("/", 3)
            repository = hub.repositories.get(f"{owner}/{name}")
            if repository is None:
                self.send_json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            elif revision and revision[1] not in (*repository.revisions, repository.commit):
                self.send_json({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
            elif revision and revision[0] == "tree":
                self.send_json(hugging_face_tree(repository))
            else:
                self.send_json(hugging_face_info(f"{owner}/{name}", repository, "blobs" in query))
        elif "/resolve/" in path:
            name, _, rest = path.lstrip("/").partition("/resolve/")
            repository = hub.repositories[name]
            file = rest.partition("/")[2]
            digest = f'"{repository.digest(file)}"'
            headers = {"ETag": digest, "X-Linked-Etag": digest, "X-Repo-Commit": repository.commit}
            self.send_file(repository, file, headers | {"X-Linked-Size": str(len(repository.files[file]))})
        else:
            self.send_json({"error": "no such interface"}, 404)

    def send_json(self, answer: dict | list, status: int = 200, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        for key, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(content)),
            **(headers or {}),
        }.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_file(self, repository: Repository, name: str, headers: dict[str, str]) -> None:
        hub = self.server_hub
        if name in hub.refused:
            self.send_json({"error": "refused"}, hub.refused[name], {"X-Error-Code": "EntryNotFound"})
            return
        content = repository.files[name]
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if start else 200)
        if start:
            headers = headers | {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        for key, value in {"Content-Length": str(len(content) - start), "Accept-Ranges": "bytes", **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "GET":
            return
        if name in hub.cut_after:
            self.wfile.write(content[start : start + hub.cut_after[name]])
            self.close_connection = True
            return
        if name in hub.stall_after:
            self.wfile.write(content[start : hub.stall_after[name]])
            self.wfile.flush()
            hub.released.wait(60)
            start = max(start, hub.stall_after[name])
        self.wfile.write(content[start:])


def modelscope_entries(repository: Repository) -> list[dict]:
    entries = [
        {"Name": name, "Path": name, "Type": "blob", "Size": len(content), "Sha256": repository.digest(name)}
        for name, content in repository.files.items()
    ]
    return [{"Name": "examples", "Path": "examples", "Type": "tree", "Size": 0, "Sha256": ""}, *entries]


def hugging_face_tree(repository: Repository) -> list[dict]:
    return [
        {"type": "file", "path": name, "size": len(content), "oid": "b" * 40}
        for name, content in repository.files.items()
    ]


def hugging_face_info(name: str, repository: Repository, with_blobs: bool) -> dict:
    siblings = []
    for file, content in repository.files.items():
        sibling = {"rfilename": file}
        if with_blobs:
            lfs = {"sha256": repository.digest(file), "size": len(content), "pointerSize": 134}
            sibling |= {"size": len(content), "blobId": "b" * 40}
            if len(content) > 10**4:
                sibling["lfs"] = lfs
        siblings.append(sibling)
    return {"id": name, "modelId": name, "sha": repository.commit, "siblings": siblings, "tags": [], "private": False}
