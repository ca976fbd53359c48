"""`python -m minirlhf.conformance ADAPTER.py`: the same as `minirlhf verify ADAPTER.py`."""

import sys

from minirlhf.conformance.command import verify

if __name__ == "__main__":
    try:
        sys.exit(verify(sys.argv[1:]))
    except (ValueError, RuntimeError, OSError) as problem:
        print(f"minirlhf: {problem}", file=sys.stderr)
        sys.exit(2)
