"""The whole server, whose connections fall asleep as soon as nothing happens for a moment.

Run as `python -m tests.support.drowsy_server CONFIG SECONDS`.
"""

import sys
from pathlib import Path

from imap.service import run

if __name__ == "__main__":
    rest_after = float(sys.argv[2])
    sys.exit(
        run.serve(Path(sys.argv[1]), foreground=True, on_ready=lambda: None, rest_after=rest_after)
    )
