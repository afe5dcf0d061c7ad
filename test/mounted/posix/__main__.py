"""POSIX operations, one case each, run as `python3 test/mounted/posix CASE DIRECTORY` in a process of its own.

A case gets a fresh directory and passes by returning. `--list` prints the names as JSON, with what needs root. Nothing here
knows what is mounted: every case passes on ext4 and tmpfs.
"""

import json
import os
import sys

import attributes  # noqa: F401 (each module registers its cases)
import content  # noqa: F401
import directories  # noqa: F401
import links  # noqa: F401
import locks  # noqa: F401
import names  # noqa: F401
import opening  # noqa: F401
from case import CASES

if sys.argv[1] == "--list":
    print(json.dumps([{"name": name, "root": function.root} for name, function in CASES.items()]))
else:
    os.umask(0o022)
    os.mkdir(sys.argv[2])
    CASES[sys.argv[1]](sys.argv[2])
