"""A `serve --http` process for tests: what it tells on stderr is read as it comes."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

SERVE = [sys.executable, "-m", "bmad_mcp", "serve", "--http"]


class HttpServer:
    """A server process; what it tells on stderr is read as it comes."""

    def __init__(self, env, *options: str, command=SERVE) -> None:
        self.process = subprocess.Popen(
            [*command, *options], env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.told: list[str] = []
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr:
            with self._more:
                self.told.append(line.rstrip("\n"))
                self._more.notify_all()
        with self._more:
            self.told.append("<end>")
            self._more.notify_all()

    def wait_for(self, pattern: str, seconds: float = 60) -> re.Match[str]:
        """The first line that matches; fails when none comes."""
        with self._more:
            for line in iter(self._lines(time.monotonic() + seconds)):
                if found := re.search(pattern, line):
                    return found
        raise AssertionError(f"{pattern!r} was not told: {self.told}")

    def _lines(self, deadline: float):
        number = 0
        while True:
            while number < len(self.told):
                yield self.told[number]
                number += 1
            if self.told[-1:] == ["<end>"] or not self._more.wait(deadline - time.monotonic()):
                return

    def ready(self) -> str:
        """Its address, once it is ready."""
        return self.wait_for(r"^ready: (https?://\S+)$")[1]

    def stop(self, number: int = signal.SIGTERM, seconds: float = 15) -> int:
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        self.process.stdout.close()
        self.process.stderr.close()
