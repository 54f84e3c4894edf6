"""The review server: responses, access rules and headers."""

from __future__ import annotations

import asyncio
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from dallme import review as server
from dallme.dataset import AUDIT, TABLE
from dallme.errors import InputError
from dallme.review import app as application
from dallme.review.app import HEADERS, Guard, Session, check_token, is_loopback, make_app
from dallme.review.changes import Change, state
from dallme.review.versions import Versions, open_versions
from report_sets import audit_of, small_set
from review_server import serving

TOKEN = "a-token-of-24-characters"
FIRST, SECOND, THIRD = "A dull film. It was slow.", "Bad, bad.", "Fine and warm."


def make_client(versions: Versions, guard: Guard) -> TestClient:
    """A client at the server's own address."""
    return TestClient(
        make_app(Session(versions), guard), base_url="http://127.0.0.1:8710", follow_redirects=False
    )


@pytest.fixture
def few(tmp_path: Path) -> Path:
    return small_set(with_comparison=True)[0].save(tmp_path / "few")


@pytest.fixture
def versions(few: Path) -> Versions:
    return open_versions(few)


@pytest.fixture
def guard() -> Guard:
    return Guard("127.0.0.1", 8710)


@pytest.fixture
def client(versions: Versions, guard: Guard) -> TestClient:
    return make_client(versions, guard)


def body(versions: Versions, *changes: dict[str, Any]) -> dict[str, Any]:
    newest = versions.newest()
    return {"version": newest.number, "digest": newest.digest, "changes": list(changes)}


WORDS = b'{"version": "1", "digest": "", "changes": []}'
DROP = {"id": 1, "seen": state(SECOND, 5), "drop": True}


def saving(guard: Guard) -> dict[str, str]:
    return {"X-Dallme-Secret": guard.secret, "Origin": "http://127.0.0.1:8710"}


def test_the_page_and_what_goes_with_it(client: TestClient, guard: Guard, versions: Versions) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    assert "<body data-editable>" in answer.text
    data = json.loads(answer.text.split('id="data-review">')[1].split("</script>")[0])
    assert data["secret"] == guard.secret
    assert (data["version"], data["digest"]) == (1, versions.newest().digest)
    assert data["texts"][1] == {
        "id": 1,
        "label": 5,
        "seen": state(SECOND, 5),
        "accepted": False,
        "edited": False,
    }
    assert client.get("/version").json() == {"version": 1, "digest": versions.newest().digest}
    assert client.get("/review.js").headers["content-type"].startswith("text/javascript")
    assert client.get("/review.css").headers["content-type"].startswith("text/css")


@pytest.mark.parametrize("path", ["/", "/version", "/review.js", "/nowhere"])
def test_every_answer_has_the_headers(client: TestClient, path: str) -> None:
    for answer in (client.get(path), client.get(path, headers={"Host": "evil.example"}), client.post(path)):
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert HEADERS["content-security-policy"] == "frame-ancestors 'none'"


def test_a_page_is_made_once_a_version(
    versions: Versions, client: TestClient, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    monkeypatch.setattr(
        "dallme.review.app.render", lambda distilled, **_: made.append(len(distilled)) or "<body></body>"
    )
    for _ in range(2):
        client.get("/")
    client.post("/save", json=body(versions, DROP), headers=saving(guard))
    for _ in range(2):
        client.get("/")
    assert made == [3, 2]


def test_saving(client: TestClient, guard: Guard, versions: Versions) -> None:
    answer = client.post("/save", json=body(versions, DROP), headers=saving(guard))
    assert answer.status_code == 201
    newest = versions.newest()
    assert answer.json() == {
        "version": 2, "digest": newest.digest, "folder": str(newest.folder), "texts": 2,
        "notes": newest.history[0]["notes"],
    }  # fmt: skip
    assert newest.distilled.texts == (FIRST, THIRD)


def test_a_save_of_a_stale_tab_is_answered_409(client: TestClient, guard: Guard, versions: Versions) -> None:
    document = body(versions, DROP)
    assert client.post("/save", json=document, headers=saving(guard)).status_code == 201
    answer = client.post("/save", json=document, headers=saving(guard))
    assert answer.status_code == 409
    assert answer.json()["error"].endswith("nothing was saved, and your changes are kept")
    assert versions.newest().number == 2


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8710", 200), ("localhost:8710", 200), ("LOCALHOST:9000", 200), ("[::1]:8710", 200),
        ("127.0.0.1", 200),
        ("evil.example:8710", 421), ("127.0.0.1.evil.example", 421), ("192.168.0.7:8710", 421), ("", 421),
        ("[::1", 421),
        ("evil.example@127.0.0.1", 200),
    ],
)  # fmt: skip
def test_only_its_own_address_is_served(client: TestClient, host: str, status: int) -> None:
    answer = client.get("/version", headers={"Host": host})
    assert answer.status_code == status
    if status == 421:
        assert answer.text == f"expected the address that dallme review printed, found the host {host!r}\n"


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:8711", "http://localhost:8710", "file://"]
)
def test_a_save_from_another_origin_is_refused(
    client: TestClient, guard: Guard, versions: Versions, origin: str
) -> None:
    answer = client.post("/save", json=body(versions, DROP), headers=saving(guard) | {"Origin": origin})
    assert answer.status_code == 403
    assert (
        answer.json()["error"] == f"expected changes from the review page alone, found ones from {origin!r}"
    )
    assert versions.newest().number == 1


@pytest.mark.parametrize("secret", [None, "", "wrong", "é"])
def test_a_save_without_the_secret_is_refused(
    client: TestClient, guard: Guard, versions: Versions, secret: str | None
) -> None:
    headers = saving(guard)
    del headers["X-Dallme-Secret"]
    if secret is not None:
        headers["X-Dallme-Secret"] = secret.encode()  # type: ignore[assignment]
    answer = client.post("/save", json=body(versions, DROP), headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"].startswith(
        "expected the secret of this server: it was restarted; reload the page"
    )
    assert versions.newest().number == 1


def test_the_secret_is_another_for_every_server() -> None:
    assert Guard("127.0.0.1", 1).secret != Guard("127.0.0.1", 1).secret
    assert len(Guard("127.0.0.1", 1).secret) >= 43


@pytest.mark.parametrize(
    "path",
    [
        "/../manifest.json", "/manifest.json", "/%2e%2e/manifest.json", "/..%2fmanifest.json",
        "/versions/0001/train.parquet",
        "//etc/passwd", "/review.js/../../app.py", "/review.js%00", "/static/review.js",
        "/%5c..%5cmanifest.json", "/favicon.ico",
    ],
)  # fmt: skip
def test_no_other_file_is_served(few: Path, path: str) -> None:
    with (
        serving(few) as guard,
        socket.create_connection(("127.0.0.1", guard.port)) as line,
    ):  # as no client would ask
        line.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{guard.port}\r\nConnection: close\r\n\r\n".encode()
        )
        answer = b""
        while part := line.recv(65_536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.endswith(b"Not Found")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_saving_is_by_post_alone(client: TestClient, guard: Guard, method: str) -> None:
    assert client.request(method, "/save", headers=saving(guard)).status_code == 405
    assert client.request(method, "/save", headers={"Origin": "http://evil.example"}).status_code in (
        403,
        405,
    )


@pytest.mark.parametrize(
    ("content", "kind", "status", "message"),
    [
        (b"{}", "text/plain", 415, "expected application/json, found text/plain; nothing was saved"),
        (b"{}", "", 415, "expected application/json, found no content type; nothing was saved"),
        (
            b"{",
            "application/json",
            400,
            "expected a JSON document, found none: JSONDecodeError; nothing was saved",
        ),
        (
            b"\xff",
            "application/json",
            400,
            "expected a JSON document, found none: UnicodeDecodeError; nothing was saved",
        ),
        (
            b"9" * 5_000,
            "application/json",
            400,
            "expected a JSON document, found none: ValueError; nothing was saved",
        ),
        (
            b"[" * 200_000,
            "application/json",
            400,
            "expected a JSON document, found none: RecursionError; nothing was saved",
        ),
        (
            b"[]",
            "application/json; x=y",
            422,
            "expected an object with version, digest and changes, found another document",
        ),
        (
            WORDS,
            "application/json",
            422,
            "expected version as a number and digest as a string, found others; nothing was",
        ),
    ],
)
def test_bodies_that_cannot_be_read(
    client: TestClient, guard: Guard, content: bytes, kind: str, status: int, message: str
) -> None:
    answer = client.post("/save", content=content, headers=saving(guard) | {"Content-Type": kind})
    assert answer.status_code == status
    assert answer.json()["error"].startswith(message)


def test_bodies_that_are_too_large(client: TestClient, guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "MAX_BODY", 1_000)
    headers = saving(guard) | {"Content-Type": "application/json"}
    said = client.post("/save", content=b" " * 1_001, headers=headers)
    unsaid = client.post("/save", content=iter([b" " * 600] * 2), headers=headers)
    for answer in (said, unsaid):
        assert answer.status_code == 413
        assert (
            answer.json()["error"] == "expected at most 1,000 bytes of changes, found more; nothing was saved"
        )
    assert (
        client.post("/save", content=b" " * 1_000, headers=headers).status_code == 400
    )  # no JSON, but not too large


def test_a_closed_connection_ends_without_an_error(versions: Versions, guard: Guard) -> None:
    app, sent = make_app(Session(versions), guard), []
    headers = {"host": "127.0.0.1:8710", "content-type": "application/json", "content-length": "900"}
    scope = {
        "type": "http", "method": "POST", "path": "/save", "query_string": b"", "http_version": "1.1",
        "headers": [(k.lower().encode(), v.encode()) for k, v in (headers | saving(guard)).items()],
    }  # fmt: skip
    messages = iter([
        {"type": "http.request", "body": b'{"version": 1', "more_body": True}, {"type": "http.disconnect"},
    ])  # fmt: skip

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    with ThreadPoolExecutor(1) as pool:  # a browser test before this one may have left a loop running here
        pool.submit(asyncio.run, app(scope, receive, send)).result()
    assert sent[0]["status"] == 400
    assert versions.newest().number == 1


def test_a_change_that_cannot_be_made_says_for_which_text(
    client: TestClient, guard: Guard, versions: Versions
) -> None:
    wrong = {"id": 1, "seen": state(SECOND, 5), "text": ""}
    answer = client.post("/save", json=body(versions, wrong), headers=saving(guard))
    assert (answer.status_code, answer.json()) == (
        422,
        {"error": "text 1 has a blank text; nothing was saved", "text": 1},
    )


def test_versions_that_are_gone_are_told(client: TestClient, few: Path) -> None:
    (few / TABLE).unlink()
    answer = client.get("/")
    assert answer.status_code == 503
    assert answer.text.startswith("expected a folder with train.parquet and manifest.json")


def test_an_audit_of_the_version_is_shown(few: Path, versions: Versions) -> None:
    (few / AUDIT).write_text(json.dumps(audit_of(small_set()[0])))
    assert 'id="audit"' in Session(versions).page("secret")
    first = versions.newest()
    versions.save(first.number, first.digest, [Change(0, state(FIRST, 5), drop=True)])
    assert 'id="audit"' not in Session(versions).page("secret")  # it is of other texts


def test_a_token_lets_in_and_nothing_else_does(versions: Versions) -> None:
    guard = Guard("127.0.0.1", 8710, TOKEN)
    client = make_client(versions, guard)
    for path in ("/", "/version", "/review.js", "/?token=", f"/?token={TOKEN}x", f"/version?token={TOKEN}"):
        answer = client.get(path)
        assert answer.status_code == 401, path
        assert (
            answer.text == "expected the token: open the address that dallme review printed, which holds it\n"
        )
    assert client.post("/save", json=body(versions, DROP), headers=saving(guard)).status_code == 401
    assert client.get("/version", headers={"Authorization": "Bearer no"}).status_code == 401
    assert client.get("/version", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    answer = client.get(f"/?token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "SameSite=strict" in answer.headers["set-cookie"]
    assert TOKEN not in answer.headers["set-cookie"]
    assert client.get("/version").status_code == 200  # with the cookie
    assert client.post("/save", json=body(versions, DROP), headers=saving(guard)).status_code == 201


def test_with_a_token_it_may_be_served_to_others(versions: Versions) -> None:
    guard = Guard("0.0.0.0", 8710, TOKEN)
    client = make_client(versions, guard)
    for host, status in (
        ("192.168.0.7:8710", 200),
        (f"{socket.gethostname()}:8710", 200),
        ("evil.example:8710", 421),
    ):
        headers = {"Host": host, "Authorization": f"Bearer {TOKEN}"}
        assert client.get("/version", headers=headers).status_code == status, host
    assert server.address(guard) == f"http://127.0.0.1:8710/?token={TOKEN}"
    assert (
        server.address(Guard("::1", 80, "a token & more#123"))
        == "http://[::1]:80/?token=a%20token%20%26%20more%23123"
    )


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("localhost", True), ("0.0.0.0", False), ("10.1.2.3", False)],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_others_need_a_token() -> None:
    with pytest.raises(
        InputError,
        match=r"expected a token for '0\.0\.0\.0', which others can reach, found none; set DALLME_REVIEW_TOKEN",
    ):
        check_token("0.0.0.0", None)
    for weak in ("", "short", "fifteen-letters", "with spaces in between", "é" * 20):
        with pytest.raises(
            InputError, match="expected a token of at least 16 ASCII characters without spaces, found"
        ):
            check_token("127.0.0.1", weak)
    check_token("0.0.0.0", TOKEN)
    check_token("127.0.0.1", None)
    for nobody in ("", "no such host.invalid"):
        with pytest.raises(InputError, match="expected the address or name of this machine, found"):
            check_token(nobody, None)
