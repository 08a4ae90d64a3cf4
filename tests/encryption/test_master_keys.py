"""The keys of the setting: what is one, what is refused, and that no message repeats a part of one."""

import base64
import os

import pytest
from pydantic import ValidationError

from bmad_mcp.encryption.master_keys import new_key, others_may_read, parse_keys, read_keys_file
from bmad_mcp.errors import Unavailable
from bmad_mcp.settings import Settings

ONE, OTHER = bytes(range(32)), bytes(range(1, 33))


def written(key: bytes) -> str:
    return base64.b64encode(key).decode()


@pytest.mark.parametrize(
    "text",
    [
        f"k1={written(ONE)},k2={written(OTHER)}",
        f" k1={written(ONE)} ,, k2={written(OTHER)} ",
        f"k1={written(ONE).rstrip('=')}\nk2={base64.urlsafe_b64encode(OTHER).decode()}\n",
    ],
)
def test_the_first_key_is_the_current_one(text):
    assert list(parse_keys(text).items()) == [("k1", ONE), ("k2", OTHER)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no key"),
        (written(ONE), "no id=base64 at place 1"),
        (f"k1={written(ONE)},k2", "no id=base64 at place 2"),
        (f"K1={written(ONE)}", "no id=base64"),
        (f"k.1={written(ONE)}", "no id=base64"),
        (f"k1={written(ONE[:31])}", "not the base64 of 32 bytes"),
        (f"k1={written(ONE)[:-2]}!!", "not the base64 of 32 bytes"),
        (f"k1={written(ONE)},k1={written(OTHER)}", "two keys with the id k1"),
        (f"k1={written(ONE)},k2={written(ONE)}", "the same key twice"),
    ],
)
def test_what_is_no_key_is_refused_without_repeating_it(text, why):
    with pytest.raises(ValueError, match=why) as refused:
        parse_keys(text)
    assert written(ONE)[:8] not in str(refused.value)
    with pytest.raises(ValidationError) as in_settings:
        Settings(encryption_keys=text or " ")
    assert why in str(in_settings.value.errors()[0]["ctx"]["error"])


def test_new_keys_differ_and_can_be_read():
    made = {new_key("k1") for _ in range(100)}
    assert len(made) == 100
    assert all(len(parse_keys(one)["k1"]) == 32 for one in made)
    with pytest.raises(ValueError, match="lower-case"):
        new_key("My Key")


def test_a_file_is_read_each_time(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"k1={written(ONE)}\n")
    settings = Settings(encryption_keys_file=file)
    assert settings.read_master_keys() == {"k1": ONE}
    file.write_text(f"k2={written(OTHER)}\nk1={written(ONE)}\n")
    assert list(settings.read_master_keys()) == ["k2", "k1"]
    file.unlink()
    with pytest.raises(Unavailable, match="cannot be read"):
        settings.read_master_keys()
    with pytest.raises(ValueError, match="cannot be read"):
        read_keys_file(file)


@pytest.mark.parametrize(
    ("mode", "is_told"), [(0o600, False), (0o640, True), (0o604, True), (0o444, os.geteuid() != 0)]
)
def test_a_file_that_its_owner_could_close_to_others_is_noticed(tmp_path, mode, is_told):
    file = tmp_path / "keys"
    file.write_text("")
    file.chmod(mode)
    assert others_may_read(file) is is_told


def test_only_one_place_for_keys(tmp_path):
    (tmp_path / "keys").write_text(f"k1={written(ONE)}")
    with pytest.raises(ValidationError, match="set one of them"):
        Settings(encryption_keys=f"k1={written(ONE)}", encryption_keys_file=tmp_path / "keys")
    assert Settings().read_master_keys() is None


def test_keys_are_among_the_secrets_that_logs_leave_out():
    settings = Settings(encryption_keys=f"k1={written(ONE)}, k2={written(OTHER)}")
    assert {written(ONE), written(OTHER)} <= set(settings.secrets())
