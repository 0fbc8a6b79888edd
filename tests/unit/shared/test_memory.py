"""What a burst took is given back, though something that came last stays."""

import subprocess
import sys
from typing import Final

import pytest

# Resident MB before the burst, after it, and when what it left unused was returned.
_BURST: Final = """
import resource
from pathlib import Path
from shared.memory import return_unused

def measure():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6

print(measure())
burst = [bytes(8000) for _ in range(5000)]
last = burst.pop()
del burst
print(measure())
return_unused()
print(measure())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc, as Linux has it")
def test_what_a_burst_took_is_given_back_though_something_stays() -> None:
    run = subprocess.run([sys.executable, "-c", _BURST], capture_output=True, text=True, check=True)
    before, kept, returned = (float(line) for line in run.stdout.split())
    assert kept - before > 30.0  # else this shows nothing
    assert returned - before < 5.0
