"""Requests under way: those that were cancelled and never answered take no more and more room."""

import math

from controller.link.uploads import MOST_OWED, Uploads


def test_of_many_that_are_owed_a_word_the_oldest_is_forgotten():
    uploads = Uploads()
    uploads.open()
    wanted = uploads.add({}, b"wanted", 0.0, math.inf).request_id
    numbers = [uploads.add({}, b"owed", 0.0, math.inf).request_id for _ in range(2 * MOST_OWED)]
    for number in numbers:
        uploads.cancel(number)
    assert wanted in uploads  # it is still waited for, however old
    assert numbers[0] not in uploads
    assert numbers[-1] in uploads
    assert sum(number in uploads for number in numbers) <= MOST_OWED


def test_one_with_hops_is_handed_on_once_it_is_sent_whole():
    uploads = Uploads()
    uploads.open()
    plain = uploads.add({}, b"x", 0.0, math.inf)
    chained = uploads.add({"hops": [["cloud", 1, 2, "int8"]]}, b"x", 0.0, math.inf)
    assert not uploads.handed_on(chained.request_id)
    plain.finished = chained.finished = True
    assert uploads.handed_on(chained.request_id)
    assert not uploads.handed_on(plain.request_id)
    uploads.pop(chained.request_id)
    assert not uploads.handed_on(chained.request_id)
