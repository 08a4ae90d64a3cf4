"""Fuzzes one target with atheris: `python tests/fuzz/run.py TARGET SECONDS`; what breaks it is kept in tests/fuzz/found."""

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["bmad_mcp"]):
    import targets

FOUND = Path(__file__).parent / "found"


def main(name: str, seconds: str) -> int:
    """Fuzz in a process of its own, because libFuzzer leaves without cleaning up; its exit code."""
    with tempfile.TemporaryDirectory(prefix=f"bmad-fuzz-{name}-") as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(targets.seeds()[name]):
            (corpus / str(number)).write_bytes(seed)
        return subprocess.run([sys.executable, __file__, name, seconds, folder], check=False).returncode


def fuzz(name: str, seconds: str, folder: str) -> None:
    """Never returns."""
    target = targets.TARGETS[name]
    targets.PROJECT = Path(folder) / "project"

    def once(data: bytes) -> None:
        try:
            target(data)
        except Exception:
            kept = FOUND / name / hashlib.sha256(data).hexdigest()[:16]
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(data)
            raise

    options = [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=2048", "-verbosity=0", "-max_len=20000"]
    options += ["-print_final_stats=1", f"-artifact_prefix={folder}/", f"{folder}/corpus"]
    atheris.Setup([sys.argv[0], *options], once)
    atheris.Fuzz()


if __name__ == "__main__":
    if len(sys.argv) > 3:
        fuzz(*sys.argv[1:4])
    sys.exit(main(*sys.argv[1:3]))
