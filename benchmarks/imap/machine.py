"""On what, with what and how busy: facts about the measuring machine."""

import os
import platform
import subprocess
import time
from pathlib import Path

import psutil

from sharefs import build


def machine() -> dict[str, str]:
    """Facts for the reader of a table, load included."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    dovecot = subprocess.run(["dovecot", "--version"], capture_output=True, text=True, check=False)
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "processor": f"{os.cpu_count()} x {model}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "dovecot": dovecot.stdout.split(" ")[0],
        "build": build.description(),
        "load": f"{os.getloadavg()[0]:.1f}",
    }
