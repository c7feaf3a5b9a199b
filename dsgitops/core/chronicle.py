"""What was seen to happen: facts that the objects themselves no longer show.

Filled by whoever watches, in the order in which things arrive; read by `health.judge`.
"""

from __future__ import annotations


class Chronicle:
    """Filled in by the next change."""
