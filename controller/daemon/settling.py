"""What a start leaves behind: memory that is free, and objects that stay.

A full pass of Python's garbage collector looks at every object and holds up every thread meanwhile,
for a frame or two over all that a daemon has loaded. What is there once it serves stays until the
end: no pass looks at it again. What a reload makes is an object like any other; there are few.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc


def settle() -> None:
    """Keep what is there from the garbage collector's later passes; give back what is free."""
    gc.collect()
    gc.freeze()
    with contextlib.suppress(OSError, AttributeError):  # glibc keeps it otherwise
        ctypes.CDLL(None).malloc_trim(0)
