"""The keys of an identity provider: how often it is asked, how long its keys are good, and what is not believed."""

import asyncio

import pytest
from auth_server import Issuer
from joserfc.jwk import ECKey, OctKey, RSAKey
from starlette.responses import JSONResponse, Response

from bmad_mcp.errors import Unavailable
from bmad_mcp.identity import signing_keys
from bmad_mcp.identity.signing_keys import FLOOR_SECONDS, FRESH_SECONDS, STALE_SECONDS, SigningKeys


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def issuer():
    async with Issuer().serving() as serving:
        yield serving


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def keys(issuer, clock):
    return SigningKeys(issuer.url, clock=clock)


async def test_keys_are_found_by_the_issuers_metadata_and_kept_for_ten_minutes(issuer, keys, clock):
    (first,) = issuer.keys
    for _ in range(3):
        assert (await keys.find(first.kid)).thumbprint() == first.thumbprint()
    clock.now += FRESH_SECONDS - 1
    await keys.find(first.kid)
    assert issuer.asked == 1
    clock.now += 2
    await keys.find(first.kid)
    assert issuer.asked == 2


async def test_a_thousand_unknown_keys_ask_the_issuer_once_in_thirty_seconds(issuer, keys, clock):
    await keys.find(issuer.keys[0].kid)
    found = await asyncio.gather(*(keys.find(f"unknown-{number}") for number in range(1000)))
    assert set(found) == {None}
    assert issuer.asked == 2
    clock.now += FLOOR_SECONDS - 1
    assert await keys.find("unknown") is None
    assert issuer.asked == 2
    clock.now += 2
    assert await keys.find("unknown") is None
    assert issuer.asked == 3


async def test_a_thousand_calls_at_once_on_a_fresh_start_ask_once(issuer, keys):
    found = await asyncio.gather(*(keys.find(issuer.keys[0].kid) for _ in range(1000)))
    assert None not in found
    assert issuer.asked == 1


async def test_a_new_key_is_good_at_once_and_an_old_one_while_it_is_published(issuer, keys, clock):
    old = issuer.keys[0].kid
    assert await keys.find(old) is not None
    for _ in range(3):
        clock.now += FLOOR_SECONDS
        issuer.keys.insert(0, RSAKey.generate_key(2048, auto_kid=True))
        assert await keys.find(issuer.keys[0].kid) is not None
        assert await keys.find(old) is not None
    issuer.keys.pop()
    clock.now += FRESH_SECONDS
    assert await keys.find(old) is None


async def test_the_last_keys_are_good_for_an_hour_while_the_issuer_is_away(issuer, keys, clock):
    kid = issuer.keys[0].kid
    await keys.find(kid)
    issuer.is_up = False
    clock.now += FRESH_SECONDS
    for _ in range(20):
        assert await keys.find(kid) is not None
    clock.now += STALE_SECONDS - FRESH_SECONDS
    assert await keys.find(kid) is not None
    clock.now += 1
    with pytest.raises(Unavailable, match="identity provider"):
        await keys.find(kid)
    issuer.is_up = True
    clock.now += FLOOR_SECONDS
    assert await keys.find(kid) is not None


async def test_an_issuer_that_was_never_there_is_told_and_asked_again_later(issuer, keys, clock):
    issuer.is_up = False
    for _ in range(5):
        with pytest.raises(Unavailable):
            await keys.find("any")
    issuer.is_up = True
    clock.now += FLOOR_SECONDS
    assert await keys.find(issuer.keys[0].kid) is not None


async def test_an_address_of_keys_is_asked_without_metadata(issuer, clock):
    keys = SigningKeys(issuer.url, f"{issuer.url}/keys", clock)
    issuer.metadata = {"issuer": "https://other.example"}
    assert await keys.find(issuer.keys[0].kid) is not None


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://other.example"},
        {"issuer": None},
        {"jwks_uri": "http://keys.example/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": None},
        {"jwks_uri": ["https://x.example"]},
    ],
)
async def test_metadata_of_another_issuer_or_with_an_unsafe_address_is_not_believed(issuer, keys, metadata):
    issuer.metadata = metadata
    with pytest.raises(Unavailable):
        await keys.find(issuer.keys[0].kid)
    assert issuer.asked == 0


async def test_a_redirect_is_not_followed(issuer, clock):
    keys = SigningKeys(issuer.url, f"{issuer.url}/moved", clock)
    with pytest.raises(Unavailable):
        await keys.find(issuer.keys[0].kid)
    assert issuer.asked == 0


@pytest.mark.parametrize(
    "answer",
    [
        lambda: Response(b"not JSON"),
        lambda: JSONResponse([]),
        lambda: JSONResponse({"keys": "none"}),
        lambda: JSONResponse({"keys": [{}] * 101}),
        lambda: Response(b"[" * 100_000),
        lambda: Response(b'{"keys": [], "x": "' + b"x" * signing_keys.MOST_BYTES + b'"}'),
        lambda: JSONResponse({"keys": []}, 500),
    ],
)
async def test_an_answer_that_is_no_list_of_keys_changes_nothing(issuer, keys, clock, answer):
    kid = issuer.keys[0].kid
    await keys.find(kid)
    issuer.answer = answer
    clock.now += FRESH_SECONDS
    assert await keys.find(kid) is not None
    assert issuer.asked == 2


async def test_only_public_keys_for_signatures_are_taken(issuer, keys):
    good, secret = issuer.keys[0], OctKey.generate_key(256, parameters={"kid": "shared"})
    curve = ECKey.generate_key("P-256", parameters={"kid": "curve"})
    weak = RSAKey.generate_key(2048, parameters={"kid": "encrypts"})
    listed = [
        secret.as_dict(private=True),
        {"kty": "quantum", "kid": "new"},
        "text",
        weak.as_dict(private=False, use="enc"),
        curve.as_dict(private=False),
        good.as_dict(private=False),
    ]
    issuer.answer = lambda: JSONResponse({"keys": listed})
    assert await keys.find(good.kid) is not None
    assert await keys.find("curve") is not None
    for kid in ("shared", "new", "encrypts"):
        assert await keys.find(kid) is None


async def test_a_token_without_a_key_id_is_good_only_where_there_is_one_key(issuer, keys, clock):
    assert await keys.find(None) is not None
    issuer.keys.append(RSAKey.generate_key(2048, auto_kid=True))
    clock.now += FRESH_SECONDS
    assert await keys.find(None) is None


@pytest.mark.parametrize(
    "url", ["http://id.example.com", "ftp://x", "", "https://", "https://u:p@x", "https://x#y", "x"]
)
def test_an_issuer_is_reached_over_https_or_on_this_machine(url):
    with pytest.raises(ValueError, match="https://"):
        SigningKeys(url)
