"""Which connections an edge holds: bounds by greeting, network and certificate; who gives way."""

from dataclasses import dataclass

import pytest

from controller.edge.connections import MAX_ERRORS, QUIET_S, Connections
from controller.edge.limits import EdgeLimits
from controller.link.addresses import network_of
from controller.link.budget import Account, Budget

pytestmark = pytest.mark.quick

LIMITS = EdgeLimits(connections=4, per_address=2, per_certificate=2, newcomers=3)


@dataclass(eq=False)
class Device:
    """A connection as far as `Connections` asks of one."""

    name: str
    network: str = ""
    account: Account | None = None
    heard_s: float = 0.0
    greeted: bool = True
    ended: bool = False
    said: str = ""
    aborted: bool = False

    def abort(self):
        self.aborted = True

    def drop(self, error):
        self.said, self.ended = error, True


@pytest.fixture
def connections():
    return Connections(LIMITS)


def device(name, address="10.0.0.1", **more):
    return Device(name, network_of(address), **more)


def certified(connections, name):
    return connections.accounts.of(name, certified=True)


def test_an_address_has_so_many_connections_and_all_together_so_many(connections):
    connections.peers |= {device("a"), device("b")}
    assert connections.refusal("10.0.0.1") == "refused, 2 connections are open from 10.0.0.1"
    assert connections.refusal("10.0.0.2") is None
    connections.peers |= {device("c", "10.0.0.2"), device("d", "10.0.0.3")}
    assert connections.refusal("10.0.0.4") == "refused, 4 connections are open"


def test_who_has_not_greeted_takes_no_place_of_those_who_have(connections):
    connections.peers |= {device(str(k), greeted=False) for k in range(9)}
    assert connections.refusal("10.0.0.1") is None


def test_addresses_of_ipv6_count_by_their_network(connections):
    connections.peers |= {device("a", "2001:db8::1"), device("b", "2001:db8::2")}
    found = connections.refusal("2001:db8::3")
    assert found == "refused, 2 connections are open from 2001:db8::/64"
    assert connections.refusal("2001:db8:0:1::3") is None


def test_of_too_many_newcomers_the_one_that_came_first_goes(connections):
    made = [device(f"n{k}") for k in range(5)]
    for one in made:
        connections.enter(one)
    assert [one.name for one in made if one.aborted] == ["n0", "n1"]
    assert [one.name for one in connections.newcomers] == ["n2", "n3", "n4"]
    assert list(connections.errors) == [
        f"{name}: dropped, it had not greeted and others came" for name in ("n0", "n1")
    ]


def test_who_greets_is_no_newcomer_and_makes_room(connections):
    made = [device(f"n{k}") for k in range(4)]
    for one in made[:3]:
        connections.enter(one)
    connections.settled(made[0])
    connections.settled(made[0])
    connections.enter(made[3])
    assert not any(one.aborted for one in made)


def test_one_can_be_let_go_while_there_is_one(connections):
    first, second = device("a"), device("b")
    connections.enter(first)
    connections.enter(second)
    assert connections.let_one_go()
    assert (first.aborted, second.aborted) == (True, False)
    assert connections.let_one_go()
    assert not connections.let_one_go()


def test_a_certificate_has_so_many_connections(connections):
    own = certified(connections, "cam")
    connections.peers |= {device("a", account=own, heard_s=95.0)}
    assert connections.one_of_few(own, 100.0) is None
    connections.peers |= {device("b", account=own, heard_s=90.0)}
    found = connections.one_of_few(own, 100.0)
    assert found == "refused, 2 connections of this certificate are open"
    assert connections.one_of_few(certified(connections, "other"), 100.0) is None


def test_a_lost_connection_of_a_certificate_gives_way_the_quietest_first(connections):
    own = certified(connections, "cam")
    quiet, quieter = (device(n, account=own, heard_s=s) for n, s in (("a", 50.0), ("b", 40.0)))
    connections.peers |= {quiet, quieter}
    now_s = 50.0 + QUIET_S + 1.0
    assert connections.one_of_few(own, now_s) is None
    assert (quiet.ended, quieter.ended) == (False, True)
    assert "more than 2 connections of this certificate" in quieter.said
    # the dropped one counts no more
    assert connections.one_of_few(own, now_s) is None
    assert not quiet.ended


def test_without_a_certificate_nobody_is_held_to_its_bound(connections):
    own = Account(Budget(1.0, 1.0), certified=False)
    connections.peers |= {device(str(k), account=own) for k in range(5)}
    assert connections.one_of_few(own, 0.0) is None


def test_everybody_goes_at_the_end_and_errors_are_bounded(connections):
    newcomer, peer = device("n"), device("p")
    connections.enter(newcomer)
    connections.peers.add(peer)
    connections.abort_all()
    assert newcomer.aborted
    assert peer.aborted
    for k in range(MAX_ERRORS + 5):
        connections.note("p", str(k))
    assert len(connections.errors) == MAX_ERRORS
    assert connections.errors[0] == "p: 5"
