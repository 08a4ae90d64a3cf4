"""What never reaches a log: tokens, passwords and keys, whether known or only recognised."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmad_mcp.identity.token_form import new_token
from bmad_mcp.settings import Settings
from bmad_mcp.telemetry.redaction import HIDDEN, Redaction

SECRET = "s3cr3t-Zq9x"

FORMS = [
    "postgresql://ann:{}@db.example/bmad",
    "could not connect to postgresql://ann:{}@db.example:5432/bmad?sslmode=require",
    "https://:{}@host/x",
    "host=db password={} user=ann",
    "password='{}'",
    'PGPASSWORD="{}"',
    '{{"password": "{}", "user": "ann"}}',
    "{{'api_key': '{}'}}",
    "X-API-Key: {}",
    "Authorization: Bearer {}",
    "authorization: {}",
    "sent Bearer {} to it",
    "Basic {}",
    "access_token={}&x=1",
    "BMAD_MEMORY_API_KEY={}",
    "client_secret: {}",
]


@pytest.mark.parametrize("form", FORMS)
def test_what_looks_like_a_secret_is_hidden(form):
    told = Redaction()(form.format(SECRET))
    assert SECRET not in told
    assert HIDDEN in told


def test_a_password_with_signs_of_addresses_is_hidden_whole():
    told = Redaction()("postgresql://ann:p@ss:w0rd@db.example/bmad is away")
    assert told == f"postgresql://ann:{HIDDEN}@db.example/bmad is away"


def test_of_an_access_token_the_id_stays_as_token_list_shows_it():
    token = new_token()
    told = Redaction()(f"refused {token.text}")
    assert told == f"refused bmad_{token.id}_{HIDDEN}"


def test_a_jwt_is_hidden():
    assert Redaction()("got eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl!") == f"got {HIDDEN}!"


@pytest.mark.parametrize(
    "text",
    [
        "The database cannot be reached: [Errno 111] Connect call failed ('127.0.0.1', 5432)",
        "Memories go to openmemory: OpenMemory answers at http://localhost:8765",
        "task_create ok in 3.1 ms",
        "The bearer of this, and a token in its place",
        "https://example.com/a@b",
    ],
)
def test_ordinary_lines_stay_as_they_are(text):
    assert Redaction()(text) == text


@settings(max_examples=40)
@given(
    st.text(min_size=6, max_size=40),
    st.text(max_size=60),
    st.text(max_size=60),
)
def test_a_known_secret_never_comes_through(secret, before, after):
    told = Redaction([secret])(before + secret + after)
    assert secret not in told or secret in HIDDEN


def test_the_secrets_of_the_settings_are_known_with_the_passwords_of_their_addresses():
    found = Settings(
        project="x",
        database_url="postgresql://ann:p%40ssw0rd@db/x",
        memory_api_key="key-of-memory",
        metrics_token="token-of-metrics",
    ).secrets()
    assert {"p%40ssw0rd", "p@ssw0rd", "key-of-memory", "token-of-metrics"} <= set(found)
