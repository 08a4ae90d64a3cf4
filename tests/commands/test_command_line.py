"""The frame of the command line: options in both places, settings, exit codes, and what is loaded when."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from commands.command import CLEAN, NO_DATABASE, bmad, fails, succeeds

from bmad_mcp import __version__
from bmad_mcp.__main__ import COMMANDS, cli
from bmad_mcp.commands.failures import Failure, told_briefly
from bmad_mcp.commands.options import settings_of
from bmad_mcp.encryption.master_keys import new_key
from bmad_mcp.errors import Conflict
from bmad_mcp.settings import Settings

SCRIPT = Path(sys.executable).parent / "bmad-mcp"


def settings_for(monkeypatch, *arguments: str, **env: str) -> Settings:
    """The settings that a command line makes."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"BMAD_{name.upper()}", raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    found = []
    command = cli.get_command(click.Context(cli), "client-config")
    original = command.callback
    monkeypatch.setattr(command, "callback", lambda **_: found.append(settings_of(click.get_current_context())))
    result = CliRunner().invoke(cli, list(arguments), catch_exceptions=False)
    assert found, result.output
    assert original is not None
    return found[0]


def test_every_command_is_listed_and_explains_itself():
    text = succeeds({}, "--help")
    for name, (_, told) in COMMANDS.items():
        assert name in text
        assert told in text
        command = cli.get_command(click.Context(cli), name)
        assert command.get_short_help_str(200)
        help_page = CliRunner().invoke(cli, [name, "--help"])
        assert help_page.exit_code == 0
        assert "..." not in help_page.output.partition("Commands:")[2]


def test_help_and_version_load_no_command():
    code = (
        "import sys; sys.argv = ['bmad-mcp', sys.argv[1]]; from bmad_mcp.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([m for m in sys.modules if m.startswith('bmad_mcp.commands.') or m in ('mcp', 'sqlalchemy', 'rich')])"
    )
    for option in ("--help", "--version"):
        done = subprocess.run([sys.executable, "-c", code, option], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "['bmad_mcp.commands.failures', 'bmad_mcp.commands.options']"


def test_serving_over_stdio_loads_nothing_that_only_other_commands_need():
    code = (
        "import sys; import bmad_mcp.__main__, bmad_mcp.commands.serve;"
        "print([m for m in ('sqlalchemy', 'alembic', 'yaml', 'rich', 'httpx', 'fastapi', 'bmad_mcp.server.first_page',"
        " 'bmad_mcp.commands.serve_http') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(not SCRIPT.exists(), reason="the package is not installed here")
def test_the_installed_script_and_the_module_are_the_same():
    assert subprocess.run([SCRIPT, "--version"], capture_output=True, text=True, env=CLEAN).stdout == succeeds(
        {}, "--version"
    )
    assert succeeds({}, "--version").strip() == f"bmad-mcp {__version__}"


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["serve", "--nonsense"], ["import"], ["client-config", "emacs"], []]
)
def test_wrong_use_ends_with_code_2(arguments):
    assert "Usage" in fails({}, *arguments, code=2)


def test_options_count_before_and_after_the_command(monkeypatch):
    options = ["--project", "Shop Two", "--data-dir", "/x/y", "--read-only", "--toolsets", "core,planning"]
    for arguments in ([*options, "client-config", "cursor"], ["client-config", "cursor", *options]):
        found = settings_for(monkeypatch, *arguments)
        assert (found.project, str(found.data_dir), found.read_only) == ("shop-two", "/x/y", True)
        assert found.toolsets == ("core", "planning")
    found = settings_for(monkeypatch, "--project", "first", "client-config", "cursor", "--project", "second")
    assert found.project == "second"


def test_options_win_over_the_environment_and_empty_variables_are_none(monkeypatch):
    assert settings_for(monkeypatch, "client-config", "cursor", BMAD_PROJECT="from-env").project == "from-env"
    found = settings_for(monkeypatch, "--project", "x", "client-config", "cursor", BMAD_PROJECT="from-env")
    assert found.project == "x"
    found = settings_for(
        monkeypatch, "client-config", "cursor", BMAD_PROJECT="", BMAD_DATABASE_URL="", BMAD_TOOLSETS=""
    )
    assert (found.database_url, found.toolsets) == (None, ("core",))
    assert "project" not in found.model_fields_set


def test_without_a_project_the_working_folder_names_it(tmp_path):
    folder = tmp_path / "My Shop (new)"
    folder.mkdir()
    snippet = json.loads(succeeds({}, "client-config", "cursor", cwd=folder))
    assert snippet["mcpServers"]["bmad"]["args"][-1] == "my-shop-new"


@pytest.mark.parametrize(
    ("arguments", "env", "told"),
    [
        (["--toolsets", "core,nope"], {}, "--toolsets has no toolset 'nope'; there are core, planning"),
        ([], {"BMAD_TOOLSETS": "nope"}, "BMAD_TOOLSETS has no toolset 'nope'"),
        ([], {"BMAD_LOG_LEVEL": "loud"}, "BMAD_LOG_LEVEL must be 'debug'"),
        ([], {"BMAD_READ_ONLY": "perhaps"}, "BMAD_READ_ONLY must be true or false"),
        (["--project", "!!"], {}, "--project has no letter and no digit"),
        (["--project", ""], {}, "--project has no letter and no digit"),
        ([], {"BMAD_PROJECT": "--"}, "BMAD_PROJECT has no letter and no digit"),
        ([], {"BMAD_MEMORY_PROVIDER": "none"}, "BMAD_MEMORY_PROVIDER must be 'openmemory'"),
    ],
)
def test_a_wrong_setting_is_named_as_it_was_given(arguments, env, told):
    assert told in fails(env, "client-config", "cursor", *arguments, code=2)


def test_a_failure_is_one_sentence_on_stderr_and_code_1():
    done = bmad(NO_DATABASE, "status")
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("bmad-mcp: The database cannot be reached: ")


def test_nested_and_unforeseen_errors_are_told_briefly_too():
    with pytest.raises(Failure) as found, told_briefly():
        raise ExceptionGroup("outer", [ExceptionGroup("inner", [Conflict("Taken. Choose another.")])])
    assert found.value.message == "Taken. Choose another."
    with pytest.raises(Failure) as found, told_briefly():
        raise ZeroDivisionError("by zero")
    assert "ZeroDivisionError: by zero" in found.value.message
    assert "BMAD_LOG_LEVEL=debug" in found.value.message
    with pytest.raises(Failure) as found, told_briefly():
        Path("/nonexistent/folder/file").read_text()
    assert found.value.message == "/nonexistent/folder/file: No such file or directory."


def test_a_working_folder_that_was_removed_is_told(tmp_path, monkeypatch):
    monkeypatch.delenv("BMAD_PROJECT", raising=False)
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for arguments in (["status"], ["client-config", "cursor"], ["import", "/"]):
        with pytest.raises(Failure, match="The working folder was removed"):
            cli.main(arguments, standalone_mode=False)


def test_keys_that_others_may_read_are_told_at_each_start(tmp_path):
    file = tmp_path / "my keys"
    file.write_text(new_key("k1"))
    file.chmod(0o644)
    env = {"BMAD_ENCRYPTION_KEYS_FILE": str(file)}
    told = bmad(env, "client-config", "cursor").stderr
    assert f"Others may read the keys in {file}. Run: chmod 600 '{file}'" in told
    file.chmod(0o600)
    assert "Others may read" not in bmad(env, "client-config", "cursor").stderr


def test_a_secret_in_a_wrong_address_is_not_repeated():
    told = fails({"BMAD_DATABASE_URL": "mysql://user:s3cret@host/db"}, "status")
    assert "s3cret" not in told
