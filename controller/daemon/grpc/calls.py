"""What the daemon answers to calls over gRPC: the same model, refusals and bounds as over HTTP."""

from __future__ import annotations

import logging
import traceback
from functools import partial
from typing import Any

from artefacts import CoinferError, UsageError
from controller.daemon.grpc import messages
from controller.daemon.grpc.channel import ANSWER_BYTES, OK, Call, Reply
from controller.daemon.inference.open_inference import InferRequest
from controller.daemon.inference.refusals import (
    TooLargeError,
    TooLateError,
    TooSlowError,
    UnknownModelError,
    UnsupportedError,
)
from controller.daemon.inference.served import ServedModel
from controller.daemon.service import BusyError

CODES: dict[type[CoinferError], str] = {
    UsageError: "INVALID_ARGUMENT",
    UnknownModelError: "NOT_FOUND",
    TooSlowError: "DEADLINE_EXCEEDED",
    TooLargeError: "RESOURCE_EXHAUSTED",
    UnsupportedError: "UNIMPLEMENTED",
    BusyError: "UNAVAILABLE",
    TooLateError: "DEADLINE_EXCEEDED",
}
"""gRPC's status code for each refusal."""
log = logging.getLogger("coinfer.device")


class Calls:
    """The protocol's six calls for one model."""

    def __init__(self, served: ServedModel) -> None:
        self._served = served
        self._methods = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ServerMetadata": self._server_metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
        }

    async def answer(self, call: Call, sent: bytes) -> tuple[Reply, bytes]:
        """The reply to a call, and the answer's message where there is one."""
        try:
            if call.method == "ModelInfer":
                return Reply(call.number), await self._model_infer(call, sent)
            asked = messages.read(f"{call.method}Request", sent)
            return Reply(call.number, OK), self._methods[call.method](asked)
        except CoinferError as error:
            code, why = CODES.get(type(error), "INVALID_ARGUMENT"), str(error)
            # else a message of megabytes is held until the next collection of cycles
            traceback.clear_frames(error.__traceback__)
        except Exception as error:  # ours to mend, not the client's to read
            log.exception("gRPC call")
            code, why = "INTERNAL", f"{type(error).__name__} (see the daemon's log)"
        return Reply(call.number, code, why), b""

    # -- health and metadata ---------------------------------------------------------------------

    def _server_live(self, asked: Any) -> bytes:
        return messages.make("ServerLiveResponse", live=True)

    def _server_ready(self, asked: Any) -> bytes:
        return messages.make("ServerReadyResponse", ready=self._served.ready)

    def _server_metadata(self, asked: Any) -> bytes:
        return messages.make("ServerMetadataResponse", **self._served.server_metadata())

    def _model_ready(self, asked: Any) -> bytes:
        self._served.check(asked.name, asked.version)
        return messages.make("ModelReadyResponse", ready=self._served.ready)

    def _model_metadata(self, asked: Any) -> bytes:
        self._served.check(asked.name, asked.version)
        return messages.make("ModelMetadataResponse", **self._served.metadata())

    # -- inference -------------------------------------------------------------------------------

    async def _model_infer(self, call: Call, sent: bytes) -> bytes:
        served = self._served
        arrival_s = min(call.arrival_s, served.now_s())
        with served.bytes.account() as account:
            if len(sent) > served.limits.body_bytes:  # lowered since the library was set up
                raise TooLargeError(f"body: found more than {served.limits.body_bytes:,} bytes")
            account.take(len(sent))
            read = partial(self._understood, sent)
            request = await served.work.run(
                read, len(sent), left_s=served.limits.longest_deadline_s
            )
            answers = await served.answers(request, arrival_s, call.until_s)
        build = partial(
            messages.build_answer,
            served.name, served.version, request, answers, served.signature,
        )  # fmt: skip
        made = await served.written(build, len(answers))
        if len(made) > ANSWER_BYTES:
            raise TooLargeError(
                f"answer: found {len(made):,} bytes, expected at most {ANSWER_BYTES:,}: ask for "
                "fewer samples or outputs"
            )
        return made

    def _understood(self, sent: bytes) -> InferRequest:
        messages.check_bounds(sent, messages.most_values(self._served.expected))
        asked = messages.read("ModelInferRequest", sent)
        self._served.check(asked.model_name, asked.model_version)
        return messages.parse_infer(asked, self._served.expected)
