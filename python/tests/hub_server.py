"""A Hub on loopback: enough of its protocol for snapshot_download and from_pretrained with HF_ENDPOINT set to it.

with Hub() as hub:
    commit = hub.push("org/model", folder)
    ...  # hub.url, hub.requests
"""

import hashlib
import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LARGE = 1 << 12  # files of this size and more are named by SHA-256, as those in Git LFS are


class _File:
    def __init__(self, data):
        self.data = data
        self.oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        self.sha256 = hashlib.sha256(data).hexdigest() if len(data) >= LARGE else None
        self.etag = self.sha256 or self.oid


class Hub:
    def __init__(self):
        self.commits = {}  # {repository: {commit: {path: _File}}}
        self.refs = {}  # {repository: {branch: commit}}
        self.requests = []  # (method, path)
        self.slow = None  # an Event that downloads of large files wait for, midway
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                hub.requests.append((self.command, self.path))
                hub._answer(self)

            do_HEAD = do_GET

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.server.shutdown()
        self.server.server_close()

    def push(self, repository, folder, branch="main"):
        """Make a folder's files the branch's newest commit, and return it."""
        folder = Path(folder)
        files = {
            path.relative_to(folder).as_posix(): _File(path.read_bytes())
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        commit = hashlib.sha1(json.dumps({name: file.oid for name, file in files.items()}).encode()).hexdigest()
        self.commits.setdefault(repository, {})[commit] = files
        self.refs.setdefault(repository, {})[branch] = commit
        return commit

    # ---- Answers ----

    def _answer(self, request):
        path = urllib.parse.unquote(urllib.parse.urlsplit(request.path).path).strip("/")
        for repository in self.commits:
            for prefix, answer in (
                (f"api/models/{repository}/revision/", self._info),
                (f"api/models/{repository}/tree/", self._tree),
                (f"{repository}/resolve/", self._file),
            ):
                if path.startswith(prefix):
                    revision, _, rest = path.removeprefix(prefix).partition("/")
                    commit = self.refs[repository].get(revision, revision)
                    files = self.commits[repository].get(commit)
                    if files is None:
                        return self._refuse(request, "RevisionNotFound")
                    return answer(request, repository, commit, files, rest)
            if path == f"api/models/{repository}":
                commit = self.refs[repository]["main"]
                return self._info(request, repository, commit, self.commits[repository][commit], "")
        return self._refuse(request, "RepoNotFound")

    def _send(self, request, status, body, headers=()):
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            request.send_header(name, value)
        request.end_headers()
        if request.command == "HEAD":
            return
        if self.slow is not None and len(body) >= LARGE:
            request.wfile.write(body[: len(body) // 2])
            request.wfile.flush()
            self.slow.wait(60)
            body = body[len(body) // 2 :]
        request.wfile.write(body)

    def _json(self, request, value):
        self._send(request, 200, json.dumps(value).encode(), [("Content-Type", "application/json")])

    def _refuse(self, request, code):
        self._send(request, 404, b"", [("X-Error-Code", code), ("X-Error-Message", code)])

    def _info(self, request, repository, commit, files, rest):
        self._json(
            request,
            {
                "_id": "0",
                "id": repository,
                "modelId": repository,
                "sha": commit,
                "private": False,
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "siblings": [{"rfilename": name} for name in files],
            },
        )

    def _tree(self, request, repository, commit, files, rest):
        entries = []
        for name, file in files.items():
            entry = {"type": "file", "oid": file.oid, "size": len(file.data), "path": name}
            if file.sha256:
                entry["lfs"] = {"oid": file.sha256, "size": len(file.data), "pointerSize": 134}
            entries.append(entry)
        self._json(request, entries)

    def _file(self, request, repository, commit, files, name):
        file = files.get(name)
        if file is None:
            return self._refuse(request, "EntryNotFound")
        headers = [
            ("X-Repo-Commit", commit),
            ("ETag", f'"{file.etag}"'),
            ("Accept-Ranges", "bytes"),
            ("Content-Type", "application/octet-stream"),
        ]
        if file.sha256:
            headers += [("X-Linked-Etag", f'"{file.sha256}"'), ("X-Linked-Size", str(len(file.data)))]
        wanted = request.headers.get("Range", "")
        if wanted.startswith("bytes=") and request.command == "GET":
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            first, last = int(first), int(last) if last else len(file.data) - 1
            headers.append(("Content-Range", f"bytes {first}-{last}/{len(file.data)}"))
            return self._send(request, 206, file.data[first : last + 1], headers)
        return self._send(request, 200, file.data, headers)
