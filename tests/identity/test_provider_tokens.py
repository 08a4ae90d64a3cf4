"""JWTs of an identity provider: one good token, and every way in which it is not."""

import base64
import hmac
import json
import time

import pytest
from auth_server import ALGORITHMS, WORDS, Issuer
from joserfc.jwk import ECKey, RSAKey

from bmad_mcp.identity.principals import subject_principal
from bmad_mcp.identity.provider_tokens import LEEWAY_SECONDS, Pinned, ProviderTokens
from bmad_mcp.identity.signing_keys import SigningKeys

RESOURCE = "https://bmad.example.com/mcp"
OTHER = RSAKey.generate_key(2048, auto_kid=True)


@pytest.fixture
async def issuer():
    async with Issuer().serving() as serving:
        yield serving


@pytest.fixture
def checked(issuer):
    pinned = Pinned(issuer.url, RESOURCE, ALGORITHMS, "at+jwt", WORDS)
    return ProviderTokens(pinned, SigningKeys(issuer.url))


def b64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def unsigned(issuer: Issuer, alg: str) -> str:
    header = b64(json.dumps({"alg": alg, "typ": "at+jwt", "kid": issuer.keys[0].kid}).encode())
    return f"{header}.{b64(json.dumps(issuer.claims(RESOURCE)).encode())}."


def by_public_key(issuer: Issuer) -> str:
    """Signed with what everybody knows: the classic confusion of RS256 with HS256. No library makes it."""
    header = {"alg": "HS256", "typ": "at+jwt", "kid": issuer.keys[0].kid}
    body = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(issuer.claims(RESOURCE)).encode())}"
    return f"{body}.{b64(hmac.digest(issuer.keys[0].as_pem(private=False), body.encode(), 'sha256'))}"


def with_header(issuer: Issuer, **changed: object) -> str:
    """Whole but for its header; the libraries make no such header."""
    header, payload, signature = issuer.token(RESOURCE).split(".")
    told = json.loads(base64.urlsafe_b64decode(header + "==")) | changed
    return f"{b64(json.dumps(told).encode())}.{payload}.{signature}"


def tampered(issuer: Issuer) -> str:
    header, payload, signature = issuer.token(RESOURCE).split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "==")) | {"scope": "bmad:admin"}
    return f"{header}.{b64(json.dumps(claims).encode())}.{signature}"


def own_key_inside(issuer: Issuer) -> str:
    header = {"jwk": OTHER.as_dict(private=False), "kid": OTHER.kid}
    return issuer.token(RESOURCE, header, key=OTHER)


NOW = time.time()
BAD = {
    "nothing": lambda i: "",
    "no JWT": lambda i: "abc",
    "three empty parts": lambda i: "..",
    "five parts": lambda i: i.token(RESOURCE) + ".x.y",
    "broken base64": lambda i: "!!." + i.token(RESOURCE).split(".", 1)[1],
    "too long": lambda i: i.token(RESOURCE, filler="x" * 20_000),
    "alg none": lambda i: unsigned(i, "none"),
    "alg None in other letters": lambda i: unsigned(i, "nOnE"),
    "HS256 with the public key": by_public_key,
    "an algorithm that the settings leave out": lambda i: i.token(RESOURCE, {"alg": "RS512"}),
    "payload changed": tampered,
    "signature cut": lambda i: i.token(RESOURCE)[:-4],
    "no signature": lambda i: i.token(RESOURCE).rpartition(".")[0] + ".",
    "signed by another key": lambda i: i.token(RESOURCE, key=OTHER),
    "another key with its own id": lambda i: i.token(RESOURCE, {"kid": OTHER.kid}, key=OTHER),
    "a key inside the token": own_key_inside,
    "unknown key": lambda i: i.token(RESOURCE, {"kid": "unknown"}),
    "key id a number": lambda i: with_header(i, kid=7),
    "key id a list": lambda i: with_header(i, kid=[]),
    "type a number": lambda i: with_header(i, typ=7),
    "algorithm a list": lambda i: with_header(i, alg=["RS256"]),
    "a critical extension": lambda i: with_header(i, crit=["b64"], b64=True),
    "no issuer": lambda i: i.token(RESOURCE, iss=None),
    "issuer with a slash": lambda i: i.token(RESOURCE, iss=i.url + "/"),
    "another issuer": lambda i: i.token(RESOURCE, iss="https://evil.example"),
    "no audience": lambda i: i.token(RESOURCE, aud=None),
    "another audience": lambda i: i.token("https://other.example/mcp"),
    "audience is a part": lambda i: i.token(RESOURCE[:-4]),
    "audiences without it": lambda i: i.token(RESOURCE, aud=["https://a.example", RESOURCE + "/x"]),
    "no end": lambda i: i.token(RESOURCE, exp=None),
    "end is text": lambda i: i.token(RESOURCE, exp="tomorrow"),
    "end is true": lambda i: i.token(RESOURCE, exp=True),
    "expired": lambda i: i.token(RESOURCE, exp=int(time.time()) - LEEWAY_SECONDS - 1),
    "not yet": lambda i: i.token(RESOURCE, nbf=int(time.time()) + LEEWAY_SECONDS + 60),
    "beginning is text": lambda i: i.token(RESOURCE, nbf="now"),
    "made in the future": lambda i: i.token(RESOURCE, iat=int(time.time()) + LEEWAY_SECONDS + 60),
    "no subject": lambda i: i.token(RESOURCE, sub=None),
    "empty subject": lambda i: i.token(RESOURCE, sub=""),
    "subject a number": lambda i: i.token(RESOURCE, sub=7),
    "subject with a space": lambda i: i.token(RESOURCE, sub="a b"),
    "subject with a line end": lambda i: i.token(RESOURCE, sub="a\n"),
    "type JWT": lambda i: i.token(RESOURCE, {"typ": "JWT"}),
    "no type": lambda i: i.token(RESOURCE, {"typ": None}),
    "an ID token by its nonce": lambda i: i.token(RESOURCE, nonce="n"),
    "an ID token by its at_hash": lambda i: i.token(RESOURCE, at_hash="n"),
}
GOOD = {
    "plain": lambda i: i.token(RESOURCE),
    "one of several audiences": lambda i: i.token(RESOURCE, aud=["https://a.example", RESOURCE]),
    "type with its prefix": lambda i: i.token(RESOURCE, {"typ": "application/at+JWT"}),
    "ended within the leeway": lambda i: i.token(RESOURCE, exp=int(time.time()) - LEEWAY_SECONDS + 10),
    "begins within the leeway": lambda i: i.token(RESOURCE, nbf=int(time.time()) + LEEWAY_SECONDS - 10),
    "without a key id": lambda i: i.token(RESOURCE, {"kid": None}),
}


@pytest.mark.parametrize("token", BAD.values(), ids=BAD)
async def test_a_token_with_anything_wrong_is_nobodys(issuer, checked, token):
    assert await checked.principal(token(issuer)) is None


@pytest.mark.parametrize("token", GOOD.values(), ids=GOOD)
async def test_a_good_token_is_its_subjects(issuer, checked, token):
    found = await checked.principal(token(issuer))
    assert (found.name, found.scopes, found.projects) == (f"{issuer.url}#user-1", {"write"}, None)


async def test_a_key_of_another_kind_is_used_for_its_own_algorithm_only(issuer, checked):
    curve = ECKey.generate_key("P-256", auto_kid=True)
    issuer.keys.append(curve)
    assert await checked.principal(issuer.token(RESOURCE, {"alg": "ES256", "kid": curve.kid}, key=curve)) is not None
    assert await checked.principal(issuer.token(RESOURCE, {"kid": curve.kid})) is None


async def test_it_is_the_subject_that_counts_and_never_the_email(issuer, checked):
    first = await checked.principal(issuer.token(RESOURCE, sub="a", email="boss@example.com", email_verified=True))
    second = await checked.principal(issuer.token(RESOURCE, sub="b", email="boss@example.com"))
    assert "boss" not in first.name + second.name
    assert first.name != second.name


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scope": "bmad:read bmad:admin"}, {"read", "admin"}),
        ({"scope": ["bmad:read"]}, {"read"}),
        ({"scope": None, "scp": ["bmad:write", 7, None]}, {"write"}),
        ({"scope": None, "scp": "bmad:write other"}, {"write"}),
        ({"scope": "read write admin"}, set()),
        ({"scope": "bmad:readx xbmad:read bmad:"}, set()),
        ({"scope": None}, set()),
        ({"scope": {"bmad:read": True}}, set()),
        ({"scope": 7}, set()),
    ],
)
async def test_only_the_providers_words_give_scopes(issuer, checked, claims, scopes):
    assert (await checked.principal(issuer.token(RESOURCE, **claims))).scopes == scopes


async def test_the_type_of_older_providers_has_to_be_set(issuer):
    pinned = Pinned(issuer.url, RESOURCE, ALGORITHMS, "jwt", WORDS)
    checked = ProviderTokens(pinned, SigningKeys(issuer.url))
    assert await checked.principal(issuer.token(RESOURCE, {"typ": "JWT"})) is not None
    assert await checked.principal(issuer.token(RESOURCE)) is None
    assert await checked.principal(issuer.token(RESOURCE, {"typ": "JWT"}, nonce="n")) is None


def test_no_two_identities_have_one_name():
    pairs = [("https://a", "b"), ("https://a#b", "c"), ("https://a", "b#c"), ("https://ab", "c")]
    names = [subject_principal(*pair) for pair in pairs]
    # An issuer with a fragment cannot be set, so that the first # ends it.
    with pytest.raises(ValueError, match="https"):
        SigningKeys("https://a#b")
    assert len({names[0], names[2], names[3]}) == 3
