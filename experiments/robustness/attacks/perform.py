"""One attack as a process of its own, with the least claim to the processors.

    python -m experiments.robustness.attacks.perform NAME

It prints `loaded`, waits for a line with the target as JSON, and makes the attack. What the
attacker's own computing takes is not the attack, so others come first (`nice`).
"""

from __future__ import annotations

import os
import sys

import msgspec

from experiments.robustness.attacks import cases
from experiments.robustness.attacks.case import Target

NICE = 10


def main() -> None:
    """The attacker's process."""
    case = cases()[sys.argv[1]]
    os.nice(NICE)
    print("loaded", flush=True)
    given = sys.stdin.readline()
    if given:
        case.run(msgspec.json.decode(given, type=Target, dec_hook=lambda kind, text: kind(text)))


if __name__ == "__main__":
    main()
