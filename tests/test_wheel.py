"""The wheel: built from the tree, installed into an empty environment, it serves; the migrations travel inside."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from processes import fresh_key

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return next(out.glob("*.whl"))


def test_it_holds_the_migrations_the_definitions_and_the_sample(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "bmad_mcp/_migrations/env.py" in names
    assert any(name.startswith("bmad_mcp/_migrations/versions/0001") for name in names)
    assert len([name for name in names if name.startswith("bmad_mcp/builtin/.bmad-core/workflows/")]) == 6
    assert any(name.startswith("bmad_mcp/sample/docs/stories/") for name in names)
    assert "bmad_mcp/server/first_page.html" in names
    static = "bmad_mcp/server/dashboard/static"
    assert {f"{static}/{name}" for name in ("dashboard.html", "app.html", "style.css", "board.js")} <= set(names)
    assert not [name for name in names if name.startswith(("tests/", "bench/", "docs/"))]


def test_it_serves_from_an_empty_environment(wheel, tmp_path, server_env):
    home = tmp_path / "env"
    venv.create(home, with_pip=False)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    # The dependencies come from here; a path file of the editable install is not followed from there.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = [str(home / "bin" / "python"), "-I", "-m", "bmad_mcp", "--project", fresh_key("wheel")]
    told = subprocess.run(
        [*command[:2], "-c", "import bmad_mcp; print(bmad_mcp.__file__)"], capture_output=True, text=True
    )
    assert str(packages) in told.stdout
    messages = [
        {"id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {},
                                                     "clientInfo": {"name": "t", "version": "0"}}},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": {"name": "workflow_start", "arguments": {"type": "brownfield-ui"}}},
    ]  # fmt: skip
    server = subprocess.Popen(
        [*command, "serve"],
        env={**os.environ, **server_env},
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    for message in messages:
        server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
    server.stdin.flush()
    answers = [json.loads(server.stdout.readline()) for _ in range(2)]
    server.stdin.close()
    assert server.wait(20) == 0
    server.stdout.close()
    assert answers[1]["result"]["structuredContent"]["workflow"]["key"] == "W-1"
