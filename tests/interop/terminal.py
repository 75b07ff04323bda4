"""A program in a terminal of its own, by tmux(1): type keys, wait for what the screen shows."""

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

PATIENCE: Final = 10.0  # seconds


class Terminal:
    """Runs command in a tmux server that nobody else uses; ends both at the end of the `with`."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="sharefs-tmux-")
        self._socket = Path(self._directory.name) / "socket"
        self._command = command
        self._environment = {
            "PATH": os.environ["PATH"], "TERM": "screen", "LC_ALL": "C.UTF-8", **environment,
        }  # fmt: skip

    def _tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self._socket), "-f", "/dev/null", *arguments],
            env=self._environment, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"tmux {arguments[0]}: {done.stderr}"
        return done.stdout

    def __enter__(self) -> Self:
        # One call, so that the option is set before the program could end.
        self._tmux("new-session", "-d", "-x", "110", "-y", "30", *self._command,
                   ";", "set-option", "-g", "remain-on-exit", "on")  # fmt: skip
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._tmux("kill-server")
        self._directory.cleanup()

    def screen(self) -> str:
        return self._tmux("capture-pane", "-p")

    def press(self, *keys: str) -> None:
        """Keys as tmux names them: "Enter", "q", "C-g"."""
        self._tmux("send-keys", *keys)

    def wait(self, *texts: str) -> str:
        """The screen once it shows all of texts.  Raises AssertionError with the last one."""
        deadline = time.monotonic() + PATIENCE
        while True:
            shown = self.screen()
            if all(text in shown for text in texts):
                return shown
            assert time.monotonic() < deadline, f"waited for {texts}, the screen shows:\n{shown}"
            time.sleep(0.05)

    def wait_end(self) -> None:
        """Until the program has ended.  Raises AssertionError with the screen."""
        deadline = time.monotonic() + PATIENCE
        while self._tmux("display-message", "-p", "#{pane_dead}").strip() != "1":
            assert time.monotonic() < deadline, f"it does not end:\n{self.screen()}"
            time.sleep(0.05)
