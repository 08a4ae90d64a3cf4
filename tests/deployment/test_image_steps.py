"""The steps of the Dockerfile that install the server, done in a folder of its own."""

import re
import shutil
import subprocess
import sys

import pytest
from commands.command import CLEAN
from data_dirs import new_data_dir
from deployment.container_files import DEPLOY, ROOT, in_context, read_dockerfile

pytestmark = pytest.mark.soak


def test_what_the_image_installs_is_a_server_that_starts(tmp_path):
    source, target = tmp_path / "src", tmp_path / "bmad-mcp"
    for file in in_context(ROOT, DEPLOY / "Dockerfile"):
        place = source / file.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    steps = [one for one in read_dockerfile(DEPLOY / "Dockerfile") if (one.stage, one.word) == ("build", "RUN")]
    assert len(steps) == 3
    for step in steps:
        command = step.text.replace("/opt/bmad-mcp", str(target)).replace("python -m venv", f"{sys.executable} -m venv")
        done = subprocess.run(["sh", "-c", command], cwd=source, env=CLEAN, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr[-2000:]
    shutil.rmtree(source)
    entry = next(one.words for one in read_dockerfile(DEPLOY / "Dockerfile") if one.word == "ENTRYPOINT")
    told = subprocess.run([target / "bin" / entry[0], "--version"], capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"bmad-mcp \d+\.\d+\.\d+\n", told)
    with new_data_dir() as data_dir:
        upgrade = [target / "bin" / entry[0], "db", "upgrade", "--data-dir", str(data_dir)]
        done = subprocess.run(upgrade, env=CLEAN, capture_output=True, text=True)
    assert "The schema is at revision" in done.stdout, done.stdout + done.stderr
