"""The one model that a daemon serves, as its clients ask it: over REST and over gRPC alike.

Whether it is ready, what it is called, what a request gets for an answer, and how many bytes of
requests are held. The ways in (`http`, `grpc`) turn its refusals into their own codes.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import numpy as np

from controller.daemon.configuration.settings import LimitSettings
from controller.daemon.inference.answering import Answer
from controller.daemon.inference.open_inference import (
    LEAST_DEADLINE_S,
    Expected,
    InferRequest,
    earliest,
)
from controller.daemon.inference.pictures import (
    Jpeg,
    JpegFiles,
    Pictures,
    decode_jpeg,
    decode_once,
    inspect_jpeg,
)
from controller.daemon.inference.refusals import TooLateError, UnknownModelError
from controller.daemon.inference.signature import (
    EXTENSIONS,
    VERSION,
    metadata,
    model_config,
    signature_of,
)
from controller.daemon.inference.texts import WORK, Texts, tokeniser_beside
from controller.daemon.inference.working import WorkPool
from controller.daemon.service import BusyError, FrameService
from controller.device.frame import FrameRecord, Raw
from models.facts.picture_fit import Placement
from models.facts.preprocessing import TokenInput

REPLY_S = LEAST_DEADLINE_S
"""An answer is given out so long before its deadline: it still has to be written and read."""
REPLIES, REPLY_SHARE = 32, 0.08
"""Of the newest answers the one that took longest from the engine to its writer is reckoned with
too, up to this share of the deadline: with much less time a frame would be planned as another."""
AT_ONCE = 250_000
"""A picture of so little work (pixels times scans) is decoded as soon as it is looked at."""
WRITTEN_AT_ONCE = 4096
"""Values of answers that take no longer to write than the event loop may be held up."""
WRITING = 16
"""What a value that is written costs beside a byte that is only read."""
T = TypeVar("T")


class HeldBytes:
    """How many bytes of requests are held, over all ways in.

    Where that is more than allowed, the body that has been coming in longest gives way: whoever
    sends one slowly shuts nobody out. Where none is coming in, whoever asks for more is refused.
    """

    def __init__(self, limits: Callable[[], LimitSettings]) -> None:
        self._limits = limits
        self.held = 0
        self.coming: dict[HeldAccount, Callable[[], None]] = {}
        """Those whose bodies are not whole yet, the oldest first, and how each is ended."""

    @contextlib.contextmanager
    def account(self) -> Iterator[HeldAccount]:
        """One request's share; it is given back when the request is over."""
        account = HeldAccount(self)
        try:
            yield account
        finally:
            self.held -= account.held

    def make_room(self, asking: HeldAccount) -> None:
        """Hold no more than is allowed. Raises `BusyError`."""
        most = self._limits().bodies_bytes
        while self.held > most:
            oldest = next(iter(self.coming), asking)
            if oldest is asking:
                raise BusyError(
                    f"{self.held:,} bytes of requests are held, expected at most {most:,}"
                )
            give_way = self.coming.pop(oldest)
            oldest.take(-oldest.held)
            give_way()


class HeldAccount:
    """What one request holds."""

    def __init__(self, whole: HeldBytes) -> None:
        self._whole = whole
        self.held = 0

    def take(self, count: int) -> None:
        """Hold `count` bytes more (fewer, where it is negative). Raises `BusyError`."""
        self.held += count
        self._whole.held += count
        self._whole.make_room(self)

    @contextlib.contextmanager
    def coming(self, give_way: Callable[[], None]) -> Iterator[None]:
        """While its body comes in. `give_way` is called once where another one needs the room."""
        self._whole.coming[self] = give_way
        try:
            yield
        finally:
            self._whole.coming.pop(self, None)


class ReplyMargin:
    """What is kept of a deadline for the answer's way from the engine to its reader.

    It grows where the newest answers have taken long to come to whoever writes them.
    """

    def __init__(self) -> None:
        self._newest: deque[float] = deque(maxlen=REPLIES)

    def learn(self, took_s: float) -> None:
        """An answer came to its writer `took_s` after it was made."""
        self._newest.append(took_s)

    def engine_s(self, deadline_s: float) -> float:
        """What the engine may take of `deadline_s`."""
        slowest_s = REPLY_S + max(self._newest, default=0.0)
        reply_s = max(min(slowest_s, REPLY_SHARE * deadline_s), REPLY_S)
        return max(deadline_s - reply_s, deadline_s / 2.0)


class ServedModel:
    """A frame service under the model's name. `limits` may be replaced while it serves."""

    def __init__(
        self, service: FrameService, limits: LimitSettings, version: str, classes: tuple[str, ...]
    ) -> None:
        """`version`: of the server; `classes`: names in the order of their numbers."""
        self.service, self.limits = service, limits
        model, takes = service.engine.model, service.engine.model.preprocessing
        self.name, self.version = model.spec.name, VERSION
        beside = tokeniser_beside(model.folder, takes) if isinstance(takes, TokenInput) else None
        self.signature = signature_of(model, classes, beside)
        self.bytes = HeldBytes(lambda: self.limits)
        self.work = WorkPool(lambda: self.limits.decoding_pixels)
        self.stopping = False
        self._server_version = version
        self._margin = ReplyMargin()

    def warm(self) -> None:
        """Read something as a request's is read, so that no frame pays for what is loaded."""
        if self.signature.takes_pictures:
            decode_once(self.signature.size)

    @property
    def ready(self) -> bool:
        """Whether a frame that came now would be answered, as far as can be known."""
        return not self.stopping and self.service.alive and self.work.alive

    @property
    def expected(self) -> Expected:
        """What a request may hold."""
        return Expected(self.signature, self.limits.longest_deadline_s)

    def now_s(self) -> float:
        """The clock that deadlines count on."""
        return self.service.engine.clock()

    def check(self, name: str, version: str = "") -> None:
        """Raises `UnknownModelError`; an empty version is any."""
        if name != self.name or version not in ("", self.version):
            raise UnknownModelError(
                f"model: found {name[:60]!r} version {(version or self.version)[:20]!r}, expected "
                f"'{self.name}' version '{self.version}'"
            )

    def metadata(self) -> dict[str, Any]:
        """The model's."""
        return metadata(self.name, self.signature)

    def config(self) -> dict[str, Any]:
        """The model's configuration, as Triton's clients ask for it."""
        return model_config(self.name, self.signature)

    def server_metadata(self) -> dict[str, Any]:
        """The server's."""
        return {
            "name": "coinfer",
            "version": self._server_version,
            "extensions": list(EXTENSIONS),
        }

    async def answers(
        self, asked: InferRequest, arrival_s: float, until_s: float | None = None
    ) -> list[Answer]:
        """One answer a sample. Raises `BusyError` and `TooLateError`.

        `arrival_s`: when the request came; `until_s`: after which nobody waits for an answer,
        whatever the deadline is. Both on the engine's clock.
        """
        deadline_s = self._deadline_s(asked, arrival_s, until_s)
        samples = asked.samples
        places: list[Placement | None] = [None] * len(samples)
        if isinstance(samples, JpegFiles):
            decoded = await self._decoded(samples, arrival_s + deadline_s)
            samples, places = np.stack([x for x, _ in decoded]), [place for _, place in decoded]
        elif isinstance(samples, Texts):
            samples = await self._tokenised(samples, arrival_s + deadline_s)
        # some of them begun and the others refused would be computed for nobody
        self.service.check_room(len(samples))
        under_way: list[asyncio.Future[FrameRecord]] = []
        try:
            for sample in samples:
                under_way.append(self._submit(sample, asked, arrival_s, deadline_s))
        except BusyError:
            # the others are answered all the same, and nobody hears it
            for future in under_way:
                future.cancel()
            raise
        records = await asyncio.gather(*under_way)
        return [self._answer(*one) for one in zip(records, places, strict=True)]

    async def written(self, write: Callable[[], T], samples: int) -> T:
        """What `write` makes of the answers to so many samples: beside the event loop where that
        may take long. Raises `BusyError`.
        """
        values = samples * self.signature.values
        if values <= WRITTEN_AT_ONCE:
            return write()
        return await self.work.run(write, WRITING * values, left_s=self.limits.longest_deadline_s)

    async def _decoded(
        self, sent: JpegFiles, until_s: float
    ) -> list[tuple[Pictures, Placement | None]]:
        """Every file's picture, one after the other: a request has one place among the work.

        And where the file's picture lies in it (None: all of it everywhere).
        """
        return [await self._picture(file, until_s) for file in sent.files]

    async def _picture(self, file: bytes, until_s: float) -> tuple[Pictures, Placement | None]:
        clock, limits, size = self.now_s, self.limits, self.signature.size
        fit = self.signature.fit
        most_s = limits.decode_s

        def decode(jpeg: Jpeg) -> tuple[Pictures, Placement | None]:
            end_s = clock() + most_s

            def over() -> bool:
                if clock() > until_s:
                    raise TooLateError("no answer in time: what was sent was not yet read")
                return clock() > end_s

            place = fit.placed(jpeg.size, size)
            return decode_jpeg(jpeg, size, over, fit), None if place.squashed else place

        def look() -> Jpeg | tuple[Pictures, Placement | None]:
            found = inspect_jpeg(file, limits.pixels)
            return decode(found) if found.work <= AT_ONCE else found

        found = await self.work.run(look, len(file), left_s=until_s - clock())
        if not isinstance(found, Jpeg):
            return found
        return await self.work.run(
            lambda: decode(found), found.work, left_s=until_s - clock(), pixels=found.pixels
        )

    async def _tokenised(self, sent: Texts, until_s: float) -> Raw:
        """Every text's ids, one after the other."""
        takes, tokeniser = self.signature.preprocessing, self.signature.tokeniser
        assert isinstance(takes, TokenInput)  # else no text is taken
        assert tokeniser is not None
        (length,) = self.signature.input_shape
        found = np.full((len(sent), length), takes.padding, dtype=np.int32)
        for row, (text, other) in zip(found, sent.texts, strict=True):
            encode = partial(tokeniser.encode, text, other, length=length)
            cost = WORK * (len(text) + len(other or ""))
            ids = await self.work.run(encode, cost, left_s=until_s - self.now_s())
            row[: len(ids)] = ids
        return found

    def _deadline_s(self, asked: InferRequest, arrival_s: float, until_s: float | None) -> float:
        deadline_s = asked.deadline_s or self.service.engine.args.deadline_s
        left_s = None if until_s is None else until_s - arrival_s
        if left_s is not None and left_s <= 0.0:
            raise TooLateError("the call's own deadline was over before it could be begun")
        return earliest(deadline_s, left_s) or deadline_s

    def _submit(
        self, sample: Raw, asked: InferRequest, arrival_s: float, deadline_s: float
    ) -> asyncio.Future[FrameRecord]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[FrameRecord] = loop.create_future()

        def set_result(record: FrameRecord, made_s: float) -> None:
            self._margin.learn(self.now_s() - made_s)
            if not future.done():  # whoever asked may have gone
                future.set_result(record)

        def done(record: FrameRecord) -> None:
            with contextlib.suppress(RuntimeError):  # the interface is closed: nobody asks
                made_s = min(self.now_s(), arrival_s + (record.latency_s or math.inf))
                loop.call_soon_threadsafe(set_result, record, made_s)

        self.service.submit(
            sample,
            done,
            deadline_s=self._margin.engine_s(deadline_s),
            threshold=asked.threshold,
            arrival_s=arrival_s,
        )
        return future

    def _answer(self, record: FrameRecord, place: Placement | None) -> Answer:
        plan = str(self.service.engine.table.plans[record.plan])
        none = record.label is None and record.values is None
        if record.latency_s is None or none or record.exit is None:
            why = f" ({record.error})" if record.error else ""
            raise TooLateError(f"no answer in time by plan '{plan}'{why}")
        values = None if record.values is None else np.frombuffer(record.values, dtype="<f4")
        if values is not None and not np.isfinite(values).all():
            raise TooLateError(
                f"no answer by plan '{plan}': found values of exit {record.exit + 1} that are no "
                "numbers"
            )
        return Answer(
            record.label, record.confidence or 0.0, record.exit, plan, record.where or "",
            record.latency_s, values, place,
        )  # fmt: skip
