"""Where the minor versions of Kubernetes differ, as far as these tests meet it: all in one place.

The suite is the same for 1.36 and 1.34 (`DSGITOPS_KUBERNETES`), and the simulator plays the
newest.  What was found to differ:

* a struct whose last field an apply removes stays, empty, since 1.36; before, it goes with it
  (`lifecycle: {}`).  The scripts of each run do not meet that; a hunt on 1.34 would.
* MutatingAdmissionPolicy is in `admissionregistration.k8s.io/v1` since 1.36; 1.34 has v1beta1,
  and that only where it is switched on (`cluster/control_plane.py`).
"""

from __future__ import annotations

import os

NEWEST = "1.36"
MINOR = os.environ.get("DSGITOPS_KUBERNETES", NEWEST)
ADMISSION_VERSION = "v1" if MINOR == NEWEST else "v1beta1"
