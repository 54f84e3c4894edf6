"""A stand-in for the HTTP API of the Hub: it runs on this machine, records requests and injects faults."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import socket
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route


@dataclass
class Repository:
    """One dataset: its branches, each with its files by name."""

    private: bool
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {}})
    commits: list[str] = field(default_factory=list)


@dataclass
class HubServer:
    """The server; use it as a context manager.

    Attributes:
        token: The valid token.
        namespaces: The users and organisations that the token may write to.
        faults: Step (create, info, branch, preupload, batch, upload, commit) to what goes wrong: a
            status, "echo" for a status 400 that repeats the token, "drop" for a connection that ends
            without an answer, or "drip" for an answer of a byte at a time.
        repositories: Id to dataset.
        cards: Id of a source to its card.
        steps: The requests, in order.
        authorizations: Step to the Authorization headers seen there.
    """

    token: str = "hf_right"
    namespaces: tuple[str, ...] = ("me",)
    faults: dict[str, int | str] = field(default_factory=dict)
    repositories: dict[str, Repository] = field(default_factory=dict)
    cards: dict[str, str] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)
    authorizations: dict[str, set[str | None]] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)

    def __enter__(self) -> HubServer:
        self._socket = socket.create_server(("127.0.0.1", 0))
        name = "/api/datasets/{owner}/{name}"
        routes = [
            ("create", "POST", "/api/repos/create", self._create),
            ("validate", "POST", "/api/validate-yaml", self._validate),
            ("info", "GET", name, self._info),
            ("info", "GET", f"{name}/revision/{{revision}}", self._info),
            ("branch", "POST", f"{name}/branch/{{revision}}", self._branch),
            ("preupload", "POST", f"{name}/preupload/{{revision}}", self._preupload),
            ("batch", "POST", "/datasets/{owner}/{name}.git/info/lfs/objects/batch", self._batch),
            ("upload", "PUT", "/objects/{oid}", self._upload),
            ("commit", "POST", f"{name}/commit/{{revision}}", self._commit),
            ("card", "GET", "/datasets/{owner}/{name}/resolve/{revision}/README.md", self._card),
        ]
        app = Starlette(
            routes=[
                Route(path, self._step(step, answer), methods=[verb]) for step, verb, path, answer in routes
            ]
        )
        config = uvicorn.Config(
            app, log_level="critical", lifespan="off", ws="none", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True).start()
        while not self._server.started:
            time.sleep(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        # It closes the socket and its thread ends in a fraction of a second; a test need not wait for that.
        self._server.should_exit = self._server.force_exit = True

    @property
    def url(self) -> str:
        """Address of the server."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def _step(self, step: str, answer: Any) -> Any:
        """Wraps an endpoint: it records the request, injects a fault or checks the token, and answers."""

        async def endpoint(request: Request) -> Response:
            self.steps.append(step)
            authorization = request.headers.get("authorization")
            self.authorizations.setdefault(step, set()).add(authorization)
            fault = self.faults.get(step)
            if fault == "drop":
                return _Dropped()
            if fault == "drip" and request.method != "HEAD":
                return StreamingResponse(_drip(), media_type="application/json")
            if fault == "echo":
                return JSONResponse(
                    {"error": f"bad request of {authorization}"},
                    400,
                    {"X-Error-Message": f"bad request of {authorization}"},
                )
            if isinstance(fault, int):
                return JSONResponse(
                    {"error": "refused on purpose"}, fault, {"X-Error-Message": "refused on purpose"}
                )
            if step not in ("upload", "validate", "card") and authorization != f"Bearer {self.token}":
                message = "Invalid credentials in Authorization header"
                return JSONResponse({"error": message}, 401, {"X-Error-Message": message})
            response: Response = await answer(request)
            return response

        return endpoint

    def _repository(self, request: Request) -> Repository:
        return self.repositories["{owner}/{name}".format(**request.path_params)]

    async def _create(self, request: Request) -> Response:
        asked = await request.json()
        repo_id = f"{asked['organization']}/{asked['name']}"
        address = {"url": f"{self.url}/datasets/{repo_id}", "name": repo_id, "id": repo_id}
        if asked["organization"] not in self.namespaces:
            message = (
                f"You don't have the rights to create a dataset under the namespace {asked['organization']!r}"
            )
            return JSONResponse({"error": message}, 403, {"X-Error-Message": message})
        if repo_id in self.repositories:
            return JSONResponse(address | {"error": "You already created this dataset repo"}, 409)
        private = asked.get("visibility") == "private" or asked.get("private") is True
        self.repositories[repo_id] = Repository(private)
        return JSONResponse(address)

    async def _validate(self, request: Request) -> Response:
        assert (await request.json())["repoType"] == "dataset"
        return JSONResponse({"errors": [], "warnings": [{"message": "a warning about nothing"}]})

    async def _info(self, request: Request) -> Response:
        repo_id = "{owner}/{name}".format(**request.path_params)
        if repo_id not in self.repositories:
            return JSONResponse({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        files = self.repositories[repo_id].branches[request.path_params.get("revision", "main")]
        siblings = [{"rfilename": name} for name in files]
        return JSONResponse(
            {
                "id": repo_id,
                "private": self.repositories[repo_id].private,
                "siblings": siblings,
                "sha": "0" * 40,
            }
        )

    async def _branch(self, request: Request) -> Response:
        branches = self._repository(request).branches
        if request.path_params["revision"] in branches:
            return JSONResponse({"error": "Reference already exists"}, 409)
        branches[request.path_params["revision"]] = dict(branches["main"])
        return JSONResponse({})

    async def _preupload(self, request: Request) -> Response:
        names = [file["path"] for file in (await request.json())["files"]]
        modes = [
            {"path": name, "uploadMode": "lfs" if name.endswith(".parquet") else "regular"} for name in names
        ]
        return JSONResponse({"files": [mode | {"shouldIgnore": False} for mode in modes]})

    async def _batch(self, request: Request) -> Response:
        asked = (await request.json())["objects"]
        objects = [
            each | {"actions": {"upload": {"href": f"{self.url}/objects/{each['oid']}"}}} for each in asked
        ]
        return JSONResponse({"transfer": "basic", "objects": objects})

    async def _upload(self, request: Request) -> Response:
        content = await request.body()
        assert hashlib.sha256(content).hexdigest() == request.path_params["oid"]
        self.objects[request.path_params["oid"]] = content
        return Response()

    async def _commit(self, request: Request) -> Response:
        repository = self._repository(request)
        files = repository.branches[request.path_params["revision"]]
        for line in (await request.body()).splitlines():
            entry = json.loads(line)
            key, value = entry["key"], entry["value"]
            if key == "header":
                repository.commits.append(value["summary"])
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.objects[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        address = "{url}/datasets/{owner}/{name}/commit/{oid}".format(
            url=self.url, oid="1" * 40, **request.path_params
        )
        return JSONResponse({"commitUrl": address, "commitOid": "1" * 40, "success": True})

    async def _card(self, request: Request) -> Response:
        repo_id = "{owner}/{name}".format(**request.path_params)
        if repo_id not in self.cards:
            return JSONResponse({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        content = self.cards[repo_id].encode()
        return Response(
            content, headers={"X-Repo-Commit": "2" * 40, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        )


async def _drip() -> AsyncIterator[bytes]:
    """Sends blanks for a quarter of a minute."""
    for _ in range(300):
        yield b" "
        await asyncio.sleep(0.05)


class _Dropped(Response):
    """No answer: the connection ends."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        receive.__self__.transport.close()  # uvicorn's own end of the connection
