"""`python -m minirlhf.conformance ADAPTER.py`: the same as `minirlhf verify ADAPTER.py`."""

import sys

from minirlhf import cli

if __name__ == "__main__":
    sys.exit(cli.main(["verify", *sys.argv[1:]]))
