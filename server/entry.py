"""What the script `rnnserve` starts: the command line, if what it needs is installed.

Installing rnnserve without extras brings the script and none of the libraries behind it.
"""

from __future__ import annotations

import sys


def main() -> None:
    try:
        from server import cli
    except ModuleNotFoundError as missing:
        sys.exit(f"rnnserve: this command needs {missing.name}: pip install 'rnnserve[server]'")
    cli.main()
