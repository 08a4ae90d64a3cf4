"""Secrets from files: what a folder of them says counts as a setting, below the variables and the options."""

import pytest
from commands.command import fails
from pydantic_settings import SettingsError

from bmad_mcp.settings import Settings


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of secrets that the environment names."""
    for name in ("BMAD_DATABASE_URL", "BMAD_METRICS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BMAD_SECRETS_DIR", str(tmp_path))
    (tmp_path / "bmad_database_url").write_text("postgresql://shop:s%40cret@db/shop\n")
    (tmp_path / "postgres_password").write_text("of somebody else")
    return tmp_path


def test_a_file_is_a_setting_and_its_secret_is_known(folder):
    settings = Settings()
    assert settings.database_url.get_secret_value() == "postgresql://shop:s%40cret@db/shop"
    assert {"s%40cret", "s@cret"} <= set(settings.secrets())


def test_a_variable_goes_first_and_an_argument_before_it(folder, monkeypatch):
    (folder / "bmad_project").write_text("of-the-file")
    assert Settings().project == "of-the-file"
    monkeypatch.setenv("BMAD_PROJECT", "of-the-variable")
    assert Settings().project == "of-the-variable"
    assert Settings(project="of-the-argument").project == "of-the-argument"


def test_a_folder_that_is_not_there_stops_the_start(tmp_path, monkeypatch):
    monkeypatch.setenv("BMAD_SECRETS_DIR", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match="which is no folder"):
        Settings()
    told = fails({"BMAD_SECRETS_DIR": str(tmp_path / "none")}, "status", code=2)
    assert "BMAD_SECRETS_DIR names" in told
