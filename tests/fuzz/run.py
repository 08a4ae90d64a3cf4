"""Fuzzes one target with atheris: `python tests/fuzz/run.py TARGET SECONDS`; what breaks it is kept in tests/fuzz/found."""

import atexit
import hashlib
import sys
import tempfile
import time
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["bmad_mcp"]):
    import targets

FOUND = Path(__file__).parent / "found"


def main() -> None:
    name, seconds = sys.argv[1], int(sys.argv[2])
    target, began, calls = targets.TARGETS[name], time.monotonic(), 0
    corpus = Path(tempfile.mkdtemp(prefix=f"bmad-corpus-{name}-"))
    for number, seed in enumerate(targets.seeds()[name]):
        (corpus / str(number)).write_bytes(seed)

    def once(data: bytes) -> None:
        nonlocal calls
        calls += 1
        try:
            target(data)
        except Exception:
            folder = FOUND / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
            raise

    def told() -> None:
        targets.clean_up()
        sys.stderr.write(f"{name}: {calls} inputs in {time.monotonic() - began:.0f} s\n")

    atexit.register(told)
    options = [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=2048", "-verbosity=0", "-max_len=20000"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={corpus}/", str(corpus)], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
