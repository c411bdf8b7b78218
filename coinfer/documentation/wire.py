"""docs/reference/wire.md: messages between device and edge, and which may come when."""

from __future__ import annotations

from coinfer.documentation.markdown import code, page, table

HEADER_ROWS = (
    ("magic", "4 bytes", "`CNFR`"),
    ("version", "u8", "1"),
    ("type", "u8", "the number of the message's type, below"),
    ("reserved", "u16", "0; a reader does not look at it"),
    ("request id", "u64", "which request; 0 where it belongs to none"),
    ("offset", "u32", "of a chunk in its tensor"),
    ("metadata length", "u32", "bytes of JSON behind the header"),
    ("payload length", "u32", "raw bytes behind the metadata"),
)
MEANINGS = {
    "HELLO": "The greeting: `model` (digest of the weights), `intervals` (a list of [exit, start, "
    "stop] that will be asked for), `token` where the edge knows one. `meaning`: digest of what "
    "the card says of inputs and answers; an edge whose card says otherwise turns the device away.",
    "WELCOME": "The edge serves: `models`, a list of the digest.",
    "REQUEST": "A request begins: `model`, `exit`, `start`, `stop`, `codec`, `shape`, what the "
    "codec needs, `bytes` (of the tensor), `remaining_s` (to its deadline), `traceparent` "
    "of a traced frame. `hops`: a list of [node, start, stop, codec] that are still to come: the "
    "edge hands its result to the first of them. `probe` true: nothing is computed, the transfer "
    "is timed.",
    "CHUNK": "The next bytes of a tensor, at `offset`.",
    "CANCEL": "The rest of a request does not come, or nobody waits for one with `hops`.",
    "CANCELLED": "The answer to that, or the deadline has passed: how much had arrived.",
    "REPLY": "The answer: `class` and `confidence` where the edge reached the exit, else `shape` "
    "and `bytes` of the tensor that follows in chunks. With times: `first_read_bytes`, "
    "`received_bytes`, `receive_s`, `gaps_s`, `queue_s`, `compute_s`; `hops`: every further "
    "node's, with its name; `away`: the node that could not be asked, whose part the edge has "
    "computed.",
    "REFUSE": "`reason`: of one request, or (request 0) of the connection; `failed` (true) where "
    "computing that one sample did, which says nothing of others.",
    "PING": "A sign of life that asks for one.",
    "PONG": "That sign.",
}
RULES = """\
- **Numbers** are big-endian. Metadata is a JSON object; whoever reads it ignores unknown keys.
  float32 tensors are little-endian, in the order of their shape.
- **Sizes are checked** before anything is allocated: {metadata:,} bytes of metadata, {chunk:,} of
  payload in one message, and what `bytes` announces against the edge's limits
  ([Configuration](configuration.md)).
- **Chunks come in order.** Each begins where the one before ended.
- **A wrong byte ends the connection.** It is never synchronised anew; the frame in hand is answered
  on the device.
- **Requests hold everything** that is needed to compute them. An edge keeps nothing of a request
  once it is answered, so any edge behind a balancer may get the next one.
- **Exits count from 0.** An interval [start, stop) counts
  the layers of that exit's branch, from 0."""


def wire_page() -> str:
    """The page."""
    from controller.wire.connection import TRANSITIONS
    from controller.wire.messages import CHUNK_BYTES, HEADER, MAX_METADATA_BYTES, MessageType

    rules = RULES.format(metadata=MAX_METADATA_BYTES, chunk=CHUNK_BYTES)
    senders = {
        kind: sorted({who.value for who, _, sent in TRANSITIONS if sent is kind})
        for kind in MessageType
    }
    types = (
        (str(int(kind)), code(kind.name), " and ".join(senders[kind]), MEANINGS[kind.name])
        for kind in MessageType
    )
    steps = (
        (who.value, before.value, code(kind.name), after.value)
        for (who, before, kind), after in TRANSITIONS.items()
    )
    return page(
        "The wire",
        "Device and edge speak over one TCP connection, inside TLS 1.3 unless both are on "
        "loopback. A message is a header, a small JSON map and raw bytes. `controller/wire` is the "
        "protocol without a socket: bytes in, messages out.",
        f"## The header\n\n{HEADER.size} bytes.",
        table(("field", "type", "value"), HEADER_ROWS),
        "## Messages",
        table(("number", "type", "sent by the", "meaning"), types),
        "## What may come when",
        "A connection begins in state `new`. What is not in the table is a mistake of the other "
        "end, and ends the connection.",
        table(("sent by the", "in state", "message", "state after it"), steps),
        "## Rules",
        rules,
    )
