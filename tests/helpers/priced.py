"""Shipped scenarios as they are taken once device seconds and megabytes have prices."""

from controller.scenarios import priced_copy, read_scenario


def taken(name):
    """The shipped scenario of a name; with '-priced' behind it the priced copy of one."""
    plain = name.removesuffix("-priced")
    return read_scenario(plain) if plain == name else priced_copy(read_scenario(plain))
