"""The memory of an attacked daemon: its own, and what its children took, also those that ended."""

import subprocess
import sys

from experiments.robustness.attacks.memory import PeakMemory, descendants, peak_bytes

MIB = 2**20
PARENT = """
import subprocess, sys
child = "import sys; held = bytearray(64 << 20); print(1, flush=True); sys.stdin.readline()"
one = subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE)
sys.stdin.readline()
one.communicate(b"\\n")
print("over", flush=True)
sys.stdin.readline()
"""


def test_what_a_child_took_counts_when_it_has_ended():
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        with PeakMemory(parent.pid) as peak:
            assert parent.stdout.readline() == "1\n"
            (child,) = descendants(parent.pid)
            assert peak_bytes(child) > 64 * MIB
            # it looks on a thread of its own, and may have seen the child while it grew
            while peak.bytes - peak_bytes(parent.pid) <= 64 * MIB:
                pass
            parent.stdin.write("\n")
            parent.stdin.flush()
            assert parent.stdout.readline() == "over\n"
            assert descendants(parent.pid) == []
        assert peak.bytes - peak_bytes(parent.pid) > 64 * MIB
        parent.stdin.close()
    assert peak.bytes == 0
    assert peak_bytes(parent.pid) == 0
