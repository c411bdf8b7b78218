"""Why the daemon refuses a request, whichever way it came; each way in has its own code for it."""

from __future__ import annotations

from artefacts import CoinferError


class UnknownModelError(CoinferError):
    """Another model, or another version, than the one that is served."""


class TooLateError(CoinferError):
    """No answer came in time."""


class TooLargeError(CoinferError):
    """A body is longer than one may be."""


class TooSlowError(CoinferError):
    """A body did not come whole in its time."""


class UnsupportedError(CoinferError):
    """A media type or content coding that is not served."""


class ForeignError(CoinferError):
    """A request that a page of somebody else's has made, or that asks for another host."""
