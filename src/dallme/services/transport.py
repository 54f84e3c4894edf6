"""Limits of one HTTP request: the size of the answer, its encoding, the total time and the address."""

from __future__ import annotations

import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

#: Bytes that a compressed answer is decompressed to at a time.
_BLOCK = 2**20

Result = TypeVar("Result")


class AnswerError(Exception):
    """An answer that is not read to its end.

    Attributes:
        retryable: Whether another attempt may succeed.
    """

    def __init__(self, reason: str, *, retryable: bool) -> None:
        """Stores the reason, a noun phrase, and whether another attempt may succeed."""
        super().__init__(reason)
        self.retryable = retryable


def call_within(seconds: float, call: Callable[[], Result], *, option: str = "") -> Result:
    """Returns the result of a call that may take so many seconds in total.

    A time-out of a connection counts each wait anew: a server that sends a byte a second never reaches it.
    The call therefore runs in a thread of its own, which is left behind when the time is over.

    Args:
        seconds: Most seconds.
        call: The call.
        option: Option that sets the seconds, for the message.

    Raises:
        AnswerError: If the call takes longer. Errors of the call are raised as they are.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="dallme-request", daemon=True).start()
    try:
        return future.result(timeout=seconds)
    except TimeoutError:
        if future.done():
            raise
        reason = f"an answer that takes longer than {seconds:g} seconds{f' ({option})' if option else ''}"
        raise AnswerError(reason, retryable=True) from None


def limit_answers(max_bytes: int, max_seconds: float) -> Callable[[Any], None]:
    """Returns a hook of an HTTP client that limits each answer, of any status.

    Args:
        max_bytes: Most bytes of an answer, after decompression.
        max_seconds: Most seconds from the headers of an answer to its end.
    """

    def limit(response: Any) -> None:
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", ""):
            raise AnswerError(
                f"an answer in the encoding {encoding[:40]!r} in place of gzip", retryable=False
            )
        if "content-encoding" in response.headers:
            del response.headers["content-encoding"]  # else the client decompresses without a limit
        chunks = response.stream
        parts = _gunzip(chunks) if encoding == "gzip" else chunks
        response.stream = _stream(response, parts, chunks.close, max_bytes, time.monotonic() + max_seconds)

    return limit


def refuse_other_origins(response: Any) -> None:
    """Stops a redirect to another scheme, host or port: texts go only to the address that the user named."""
    if not response.has_redirect_location:
        return
    try:
        target = response.url.join(response.headers["location"])
    except Exception:  # an invalid address; the kind of the error depends on the client's version
        target = None
    if target is None or (target.scheme, target.host, target.port) != (
        response.url.scheme,
        response.url.host,
        response.url.port,
    ):
        del response.headers["location"]


def _gunzip(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Decompresses an answer in blocks, so that none is larger than :data:`_BLOCK`."""
    decompressor = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        for chunk in chunks:
            while chunk:
                yield decompressor.decompress(chunk, _BLOCK)
                chunk = decompressor.unconsumed_tail
            if decompressor.eof:
                return
        yield decompressor.flush()
        if not decompressor.eof:
            raise AnswerError("an answer whose compressed end is missing", retryable=True)
    except zlib.error as error:
        raise AnswerError(f"an answer that cannot be decompressed ({error})", retryable=True) from None


def _stream(
    response: Any, parts: Iterable[bytes], close: Callable[[], None], max_bytes: int, deadline: float
) -> Any:
    """Returns a stream of the client's own type that ends with an error at a limit."""
    library = sys.modules[type(response).__module__.partition(".")[0]]  # httpx or httpx2

    def read(_: Any) -> Iterator[bytes]:
        size = 0
        for part in parts:
            size += len(part)
            if size > max_bytes:
                reason = f"an answer of more than {max_bytes:,} bytes; raise max_answer_bytes to take it"
                raise AnswerError(reason, retryable=False)
            if time.monotonic() > deadline:
                raise AnswerError("an answer that takes too long", retryable=True)
            yield part

    kind = type("LimitedStream", (library.SyncByteStream,), {"__iter__": read, "close": lambda _: close()})
    return kind()
