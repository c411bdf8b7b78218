"""What an error that is answered leaves behind: nothing that waits for the garbage collector."""

import asyncio
import gc
import weakref

import pytest

from controller.daemon.http.errors import let_go


class Body:
    pass


def test_the_frames_of_an_error_that_is_answered_hold_no_body():
    gone = []

    async def refused():
        body = Body()
        gone.append(weakref.ref(body))
        future = asyncio.get_running_loop().create_future()
        future.set_exception(ValueError("damaged"))
        try:
            await future  # holds the error whose frames hold it
        except ValueError:
            raise KeyError("refused") from None

    async def scenario():
        try:
            await refused()
        except KeyError as error:
            let_go(error)

    gc.disable()
    try:
        asyncio.run(scenario())
        assert gone[0]() is None
    finally:
        gc.enable()


def test_an_error_of_errors_is_let_go_as_a_whole():
    with pytest.raises(KeyError) as found:
        try:
            raise ValueError("first")
        except ValueError as first:
            raise KeyError("second") from first
    first = found.value.__cause__
    let_go(found.value)
    assert found.value.__traceback__ is first.__traceback__ is None
    assert found.value.__cause__ is None
