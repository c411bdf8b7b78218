"""Whether holes are known in what the lock names: 0 none, 1 some, 2 nobody could be asked.

    python deploy/audit.py deploy/requirements.txt

Asks with pip-audit. What it cannot find out is no "none".
"""

from __future__ import annotations

import json
import subprocess
import sys

COMMAND = ("pip_audit", "--strict", "--disable-pip", "--require-hashes", "--format", "json")
LIMIT_S = 300.0


def main() -> int:
    """Print what is known; the exit code."""
    lock = sys.argv[1]
    command = [sys.executable, "-m", *COMMAND, "--progress-spinner", "off", "-r", lock]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return unknown(lock, f"no answer within {LIMIT_S:g} s")
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        said = [line for line in done.stderr.splitlines() if line.strip()]
        return unknown(lock, said[-1] if said else f"pip-audit ended with {done.returncode}")
    for one in found:
        if "skip_reason" in one:
            return unknown(lock, one["skip_reason"])
    holes = [(one, hole) for one in found for hole in one["vulns"]]
    for one, hole in holes:
        fixed = ", ".join(hole["fix_versions"]) or "no version"
        print(f"{one['name']} {one['version']}: {hole['id']} (mended in {fixed})")
    print(f"audit: {len(found)} packages, {len(holes)} known holes")
    return int(bool(holes))


def unknown(lock: str, why: str) -> int:
    """Say that nothing is known."""
    print(f"audit: {lock} could not be checked: {why[:200]}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
