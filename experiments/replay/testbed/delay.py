"""`python -m experiments.replay.testbed.delay HOST PORT RTT_S`: a delay-only relay as its own
process.

Prints one JSON line with the port it listens on; ends when its standard input closes.
"""

from __future__ import annotations

import json
import sys

from experiments.replay.testbed.relay import Relay


def main() -> None:
    """Relay until standard input ends."""
    host, port, rtt_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    relay = Relay((host, port), None, rtt_s, host=host)
    print(json.dumps({"port": relay.port}), flush=True)
    sys.stdin.read()
    relay.close()


if __name__ == "__main__":
    main()
