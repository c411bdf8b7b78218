"""Attacks by programs and pages on the device's machine, over its local interface."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from experiments.robustness.attacks.case import Case, Target
from experiments.robustness.structures import jpeg, many_scans

MANY = 8
"""Connections of an attack that takes several."""
CROWD = 64
"""Of one that takes half of the places."""
TIMEOUT_S = 20.0
VALUES = 32 * 32 * 3
"""Of one picture that the attacked model takes."""
JSON = {"Content-Type": "application/json"}
PICTURE = {"Content-Type": "image/jpeg"}
PACKED = JSON | {"Content-Encoding": "gzip"}
FOREIGN = {"Origin": "http://elsewhere.example", "Sec-Fetch-Site": "cross-site"}


def repeatedly(target: Target, once: Callable[[], object], connections: int = 1) -> None:
    """`once` again and again on so many threads; that it is hung up on belongs to it."""
    until_s = time.monotonic() + target.seconds

    def go_on() -> None:
        while time.monotonic() < until_s:
            with contextlib.suppress(OSError, http.client.HTTPException):
                once()

    threads = [threading.Thread(target=go_on, daemon=True) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(until_s - time.monotonic(), 0.0) + 1.0)


def post(
    target: Target, body: bytes | Iterable[bytes], headers: Mapping[str, str], path: str = "/infer"
) -> tuple[int, bytes]:
    """One request on a connection of its own: its status and what came.

    `target` is the device; `body` is sent whole or piece by piece, with `headers`, to `path`.
    """
    connection = http.client.HTTPConnection(*target.device_http, timeout=TIMEOUT_S)
    try:
        connection.request("POST", path, body, dict(headers))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def body(text: bytes, more: bytes = b"", shape: bytes = b"[1, 32, 32, 3]") -> bytes:
    """A request whose picture has `text` for its data; `more`: fields with a comma each."""
    given = b'"name": "picture", "datatype": "UINT8", "shape": %b, "data": %b' % (shape, text)
    return b'{%b "inputs": [{%b}]}' % (more, given)


def _posts(
    made: Callable[[], bytes],
    headers: Mapping[str, str] = JSON,
    connections: int = 2,
    path: str = "/infer",
) -> Callable[[Target], None]:
    """An attack that sends one body again and again."""

    def attack(target: Target) -> None:
        sent = made()
        repeatedly(target, lambda: post(target, sent, headers, path), connections)

    return attack


ZEROS = b"[" + b"0," * (VALUES - 1) + b"0]"
EMPTIES = b"[" + b"[]," * 500_000 + b"[]]"


def strings() -> bytes:
    """One long string among many short ones."""
    return body(b'["' + b"x" * 20_000 + b'"' + b',"a"' * (VALUES - 1) + b"]")


def outputs() -> bytes:
    """The same output very often."""
    many = json.dumps([{"name": "label"}] * 80_000).encode()
    return body(ZEROS, b'"outputs": %b,' % many)


def fields() -> bytes:
    """Very many fields of other names."""
    return b"{" + b",".join(b'"%x": 1' % k for k in range(120_000)) + b"}"


def files() -> bytes:
    """Sixteen files of three megapixels each in one request."""
    one = many_scans(1700, 12)
    tail = (len(one).to_bytes(4, "little") + one) * 16
    given = {"name": "picture", "shape": [16], "datatype": "BYTES",
             "parameters": {"binary_data_size": len(tail)}}  # fmt: skip
    return json.dumps({"inputs": [given]}).encode() + tail


def many_files(target: Target) -> None:
    """See `files`."""
    sent = files()
    length = {"Inference-Header-Content-Length": str(sent.index(b"}]}") + 3)}
    repeatedly(target, lambda: post(target, sent, JSON | length), MANY)


def pages(target: Target) -> None:
    """What a page of another site can send without being asked first, and what it could read."""

    def once() -> None:
        for kind in ("text/plain", "image/jpeg"):
            status, _ = post(target, PIXEL, FOREIGN | {"Content-Type": kind})
            if status == http.client.OK:
                raise AssertionError(f"a page of another site was answered ({kind})")
        for path in ("/live/state", "/metrics"):
            if _fetched(target, path, "rebound.example") == http.client.OK:
                raise AssertionError(f"{path} was read under another name")

    once()
    repeatedly(target, once, 3)


PIXEL = jpeg(32)


def _fetched(target: Target, path: str, host: str) -> int:
    connection = http.client.HTTPConnection(*target.device_http, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path, headers={"Host": host})
        return connection.getresponse().status
    finally:
        connection.close()


def _in_chunks(head: bytes, chunks: int = 200_000, crowd: int = 2) -> Callable[[Target], None]:
    """A request whose body comes in chunks of one byte each, on so many connections."""
    whole = head + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n0\r\n" * chunks + b"0\r\n\r\n"

    def attack(target: Target) -> None:
        def once() -> None:
            with socket.create_connection(target.device_http, TIMEOUT_S) as client:
                client.sendall(whole)
                client.recv(4096)

        repeatedly(target, once, crowd)

    return attack


def held_bodies(target: Target) -> None:
    """Bodies of eight megabytes that never end."""
    head = b"POST /infer HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"

    def once() -> None:
        with socket.create_connection(target.device_http, TIMEOUT_S) as client:
            client.sendall(head + b"Content-Length: 8000000\r\n\r\n" + bytes(7_900_000))
            client.settimeout(2.0)
            client.recv(4096)

    repeatedly(target, once, MANY)


POST = b"POST /infer HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
PLACES = 140
"""More than there are connections."""


def _held(begin: Callable[[socket.socket], object], go_on: bytes = b"") -> Callable[[Target], None]:
    """As many connections as there are places; each that is hung up on is opened anew."""

    def attack(target: Target) -> None:
        until_s = time.monotonic() + target.seconds
        held: list[socket.socket] = []
        while time.monotonic() < until_s:
            for _ in range(PLACES - len(held)):
                with contextlib.suppress(OSError):
                    client = socket.create_connection(target.device_http, 1.0)
                    held.append(client)
                    begin(client)
            held = [client for client in held if _goes_on(client, go_on)]
            time.sleep(0.03)

    return attack


def _goes_on(client: socket.socket, said: bytes) -> bool:
    """Say a little more; False where the other end has hung up."""
    try:
        client.setblocking(False)
        if said:
            client.send(said)
        return bool(client.recv(65_536))
    except BlockingIOError:
        return True
    except OSError:
        client.close()
        return False


def _body_of_a_byte(client: socket.socket) -> None:
    client.sendall(POST + b"Content-Length: 1000\r\n\r\nx")


def _asked_once(client: socket.socket) -> None:
    client.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    client.recv(1000)
    client.sendall(b"GET /")


def _endless(begin: bytes, more: bytes) -> Callable[[Target], None]:
    """Bytes without end behind some that are a request, or none."""

    def attack(target: Target) -> None:
        def once() -> None:
            with socket.create_connection(target.device_http, 2.0) as client:
                client.sendall(begin)
                while True:
                    client.sendall(more)

        repeatedly(target, once, MANY)

    return attack


def ahead(target: Target) -> None:
    """Large heads behind a picture that takes long."""
    slow = many_scans(3500, 24)
    first = POST.replace(b"/infer", b"/infer?deadline_ms=20000")
    first += b"Content-Length: %d\r\n\r\n" % len(slow) + slow
    fields = b"".join(b"h%d: %b\r\n" % (k, b"a" * 7000) for k in range(4))
    _endless(first, (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + fields + b"\r\n") * 40)(target)


def pipelined(target: Target) -> None:
    """Cheap requests without end ahead of their answers, which every second connection reads."""
    until_s = time.monotonic() + target.seconds
    asked = (b"/metrics", b"/live/state", b"/metrics", b"/v2/health/live")

    def go_on(number: int) -> None:
        one = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % asked[number // 2 % len(asked)]
        while time.monotonic() < until_s:
            with contextlib.suppress(OSError):
                _pipeline(target, one * 500, until_s, reads=bool(number % 2))

    threads = [threading.Thread(target=go_on, args=(k,), daemon=True) for k in range(CROWD)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(until_s - time.monotonic(), 0.0) + 1.0)


def _pipeline(target: Target, said: bytes, until_s: float, *, reads: bool) -> None:
    with socket.create_connection(target.device_http, 2.0) as client:
        client.setblocking(False)
        left = said
        while time.monotonic() < until_s:
            readable, writable, _ = select.select([client] * reads, [client], [], 0.1)
            if readable and not client.recv(1 << 16):
                return
            if writable:
                left = left[client.send(left) :] or said


UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n"


def _case(name: str, what: str, run: Callable[[Target], None]) -> Case:
    return Case(name, what, run)


def _deep(field: bytes) -> Callable[[], bytes]:
    return lambda: body(ZEROS, b'"%b": %b,' % (field, EMPTIES))


CASES = (
    _case("strings", "JSON: a long string among short ones", _posts(strings)),
    _case("empties", "JSON: data of nested empty lists", _posts(lambda: body(EMPTIES))),
    _case("deep-id", "JSON: an id of nested empty lists", _posts(_deep(b"id"))),
    _case("deep-parameters", "JSON: parameters that are lists", _posts(_deep(b"parameters"))),
    _case("outputs", "JSON: the same output 80,000 times", _posts(outputs)),
    _case("inputs", "JSON: half a million inputs",
          _posts(lambda: b'{"inputs": [' + b"{}," * 500_000 + b"{}]}")),
    _case("fields", "JSON: 120,000 fields of unknown names", _posts(fields)),
    _case("shape", "JSON: a shape of half a million ones",
          _posts(lambda: body(ZEROS, shape=b"[" + b"1," * 500_000 + b"1]"))),
    _case("long", "JSON: eight megabytes of spaces", _posts(lambda: b" " * 8_000_000 + b"{}")),
    _case("scans", "JPEG: thousands of scans", _posts(lambda: many_scans(3500, 20_000), PICTURE)),
    _case("slow-pictures", "JPEG: pixels and scans just within their bounds",
          _posts(lambda: many_scans(3500, 24), PICTURE, MANY, "/infer?deadline_ms=5000")),
    _case("large-pictures", "JPEG: 25 megapixels", _posts(lambda: jpeg(5000), PICTURE, MANY)),
    _case("many-files", "JPEG: sixteen slow files a request", many_files),
    _case("pages", "a page of another site", pages),
    _case("gzip", "gzip: eight megabytes of nothing",
          _posts(lambda: gzip.compress(bytes(8_000_000)), PICTURE | PACKED | PICTURE, MANY)),
    _case("gzip-refused", "gzip: two megabytes for a model that is not there",
          _posts(lambda: gzip.compress(bytes(2_000_000), 0), PACKED, MANY, "/v2/models/x/infer")),
    _case("brotli", "a coding that is not served",
          _posts(lambda: bytes(16_000), JSON | {"Content-Encoding": "br"}, MANY)),
    _case("small-chunks", "bodies in chunks of a byte", _in_chunks(POST)),
    _case("few-chunks", "the same, just under the bound, on many connections",
          _in_chunks(POST, 120, CROWD)),
    _case("too-late", "pictures with less time than they can be answered in",
          _posts(lambda: PIXEL, PICTURE, CROWD, "/infer?deadline_ms=3")),
    _case("too-much-work", "gzip: more bodies at once than may wait to be unpacked",
          _posts(lambda: gzip.compress(bytes(2_000_000)), PACKED, CROWD)),
    _case("unread-chunks", "the same where no body belongs",
          _in_chunks(b"GET /v2/health/ready HTTP/1.1\r\nHost: localhost\r\n")),
    _case("held-bodies", "bodies that never end", held_bodies),
    _case("bodies-of-a-byte", "a byte of a body on every connection", _held(_body_of_a_byte)),
    _case("trickled-heads", "asked once, then bytes of a head", _held(_asked_once, b"a")),
    _case("no-http", "bytes without end that are no HTTP", _endless(b"", bytes(1 << 20))),
    _case("upgrade", "bytes without end behind an upgrade",
          _endless(POST + UPGRADE, bytes(1 << 20))),
    _case("pipelined", "cheap requests ahead of their answers", pipelined),
    _case("heads-ahead", "large heads ahead of a slow answer", ahead),
)  # fmt: skip
"""Every one holds the camera to the usual bound."""
