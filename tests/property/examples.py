"""How many histories are tried: a bounded number in `make test`, POLYGON_PROXY_EXAMPLES times as many in a soak."""

import os
from typing import Final

from hypothesis import HealthCheck, settings

_SOAK: Final = "5" if os.environ.get("POLYGON_PROXY_SOAK") else "1"
FACTOR: Final = max(1, int(os.environ.get("POLYGON_PROXY_EXAMPLES", _SOAK)))
TIMEOUT_S: Final = 120 * FACTOR  # of one test


def histories(examples: int, steps: int) -> settings:
    """Settings for `examples` histories of up to `steps` rules each."""
    return settings(
        max_examples=examples * FACTOR,
        stateful_step_count=steps,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
