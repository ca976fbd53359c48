"""Runs in a system's environment: one adapter against all vectors, the results as JSON.

    python scripts/released/inside.py ADAPTER.py RESULTS.json
"""

import contextlib
import logging
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from released.identifying import claims, measure, plain  # noqa: E402

from minirlhf.conformance.adapters import imported  # noqa: E402
from minirlhf.files import write_json  # noqa: E402

source, results = sys.argv[1:]
warnings.simplefilter("ignore")
logging.disable(logging.WARNING)                    # what packages miss on a CPU
with contextlib.redirect_stdout(sys.stderr):
    adapter = imported(source)
    found = measure(adapter)
write_json(Path(results), {"measured": plain(found),
                           "claims": [asdict(claim) for claim in claims(adapter, found)]})
