"""Write the lock files of CI from what pip would install: every package with its version and the hash of its file.

    make lock

Lock files are for one platform, that of CI: Linux on x86-64, CPython 3.11. torch has a file of its own, as it comes
from an index of its own, and from there alone: with two indexes for all packages, a name that is free on one of them
could be taken there by a stranger.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
HEADER = "# Written by `make lock` for Linux, x86-64, CPython 3.11; installed with --require-hashes.\n"
OWN = "codeq-to-device"


def main() -> None:
    """Read pip's report on stdin."""
    lines: dict[str, list[str]] = {"lock.txt": [], "lock-torch.txt": []}
    for package in json.load(sys.stdin)["install"]:
        name, version = (package["metadata"][key] for key in ("name", "version"))
        if name != OWN:
            sha256 = package["download_info"]["archive_info"]["hashes"]["sha256"]
            file = "lock-torch.txt" if name == "torch" else "lock.txt"
            lines[file].append(f"{name.lower().replace('_', '-')}=={version} --hash=sha256:{sha256}\n")
    for file, entries in lines.items():
        (HERE / file).write_text(HEADER + "".join(sorted(entries)))


main()
