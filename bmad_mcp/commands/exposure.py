"""Where `serve --http` may listen, and what it must have there: nobody is let in from elsewhere without a token and TLS."""

import ipaddress
from dataclasses import dataclass

import click

from bmad_mcp.identity.browser_sign_in import BrowserSignIn
from bmad_mcp.identity.provider_tokens import ALGORITHMS, Pinned, ProviderTokens
from bmad_mcp.identity.rights import SCOPES
from bmad_mcp.identity.signing_keys import SigningKeys, is_loopback, trusted_address
from bmad_mcp.operation import Scope
from bmad_mcp.server.auth import Resource
from bmad_mcp.server.guard import Names
from bmad_mcp.settings import Settings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Exposure:
    """A start that is allowed: where to listen, the names to answer to, and whether a token is asked for."""

    address: Address
    names: Names
    is_authenticated: bool
    settings: Settings

    def url(self, port: int) -> str:
        """The address that clients use for this port of ours, without a slash at its end."""
        settings, scheme = self.settings, self.names.scheme
        if settings.public_url is not None:
            return settings.public_url.rstrip("/")
        if not settings.allowed_hosts:
            name = str(self.address)
            return f"{scheme}://[{name}]:{port}" if self.address.version == 6 else f"{scheme}://{name}:{port}"
        first = settings.allowed_hosts[0]
        # A proxy listens where browsers expect it; without one, clients come to this port.
        is_whole = (
            settings.behind_tls_proxy or ":" in first.rpartition("]")[2] or port == {"https": 443}.get(scheme, 80)
        )
        return f"{scheme}://{first}" if is_whole else f"{scheme}://{first}:{port}"


def check_start(settings: Settings, host: str) -> Exposure:
    """What this start exposes; raises UsageError that names everything that is missing, and what sets it."""
    address = _address(host)
    is_authenticated = settings.auth_required or settings.auth_issuer is not None
    named_elsewhere = [name for name in settings.allowed_hosts if not is_loopback(_without_port(name))]
    is_remote = not address.is_loopback or settings.behind_tls_proxy or bool(named_elsewhere)
    has_tls = settings.tls_cert is not None
    missing = []
    if is_remote and not is_authenticated:
        missing.append(
            "authentication (--auth, with tokens of `bmad-mcp token create`; or BMAD_AUTH_ISSUER, your identity provider)"
        )
    if is_remote and not settings.allowed_hosts:
        missing.append("the names that clients reach it by (--allowed-hosts bmad.example.com)")
    if is_remote and not (has_tls or settings.behind_tls_proxy):
        missing.append("TLS (--tls-cert and --tls-key; or --behind-tls-proxy where a proxy ends it)")
    if missing:
        where = f"--host {host}" if not address.is_loopback else "This start"
        raise click.UsageError(
            f"{where} lets other machines in, so `serve --http` also needs {'; '.join(missing)}."
            " Without them it listens on 127.0.0.1 only."
        )
    _check_tls(settings)
    scheme = "https" if has_tls or settings.behind_tls_proxy else "http"
    try:
        names = Names.of(settings.allowed_hosts, scheme)
    except ValueError as error:
        raise click.UsageError(f"--allowed-hosts {error}.") from None
    if settings.public_url is not None:
        try:
            trusted_address(settings.public_url)
        except ValueError as error:
            raise click.UsageError(f"BMAD_PUBLIC_URL {error}.") from None
    return Exposure(address, names, is_authenticated, settings)


def _address(host: str) -> Address:
    try:
        return ipaddress.ip_address("127.0.0.1" if host == "localhost" else host.strip("[]"))
    except ValueError:
        raise click.BadParameter(
            f"{host!r} is no address to listen on. Use 127.0.0.1, or an address of this machine such as 0.0.0.0"
            " (--allowed-hosts holds the names that clients use).",
            param_hint="--host",
        ) from None


def _without_port(name: str) -> str:
    bare = name.partition("]")[0].lstrip("[") if name.startswith("[") else name.rpartition(":")[0] or name
    return bare.lower()


def _check_tls(settings: Settings) -> None:
    cert, key = settings.tls_cert, settings.tls_key
    if (cert is None) != (key is None):
        raise click.UsageError("--tls-cert and --tls-key belong together.")
    if cert is not None and settings.behind_tls_proxy:
        raise click.UsageError("--behind-tls-proxy says that TLS ends elsewhere; leave --tls-cert and --tls-key out.")
    for option, file in (("--tls-cert", cert), ("--tls-key", key)):
        if file is not None and not file.is_file():
            raise click.UsageError(f"{option}: there is no file {str(file)!r}.")


def scope_words(settings: Settings) -> dict[Scope, str]:
    """The identity provider's words for the scopes; raises UsageError."""
    words: dict[Scope, str] = {scope: scope for scope in SCOPES}
    for pair in filter(None, (part.strip() for part in settings.auth_scopes.split(","))):
        name, _, word = (part.strip() for part in pair.partition("="))
        scope = next((one for one in SCOPES if one == name), None)
        if scope is None or not word or any(letter in word for letter in '" \\') or not word.isascii():
            raise click.UsageError(
                f"BMAD_AUTH_SCOPES has {pair!r}; write read=WORD,write=WORD,admin=WORD, each word without spaces."
            )
        words[scope] = word
    if len(set(words.values())) != len(words):
        raise click.UsageError("BMAD_AUTH_SCOPES gives two scopes the same word.")
    return words


def browser_sign_in(settings: Settings, resource: Resource) -> BrowserSignIn | None:
    """How people sign in at the provider from the dashboard; None where nothing says how. Raises UsageError."""
    if settings.auth_client_id is None:
        return None
    if settings.auth_issuer is None:
        raise click.UsageError("BMAD_AUTH_CLIENT_ID is of an identity provider: set BMAD_AUTH_ISSUER too.")
    return BrowserSignIn(
        settings.auth_issuer,
        settings.auth_client_id,
        settings.auth_audience or resource.identifier,
        " ".join(resource.word(scope) for scope in resource.offered),
        f"{resource.url}/",
    )


def provider_tokens(settings: Settings, resource: str) -> ProviderTokens | None:
    """What checks the identity provider's tokens for the resource; None without one. Raises UsageError."""
    if settings.auth_issuer is None:
        return None
    if not settings.auth_algorithms or (refused := set(settings.auth_algorithms) - set(ALGORITHMS)):
        named = ", ".join(sorted(refused)) if settings.auth_algorithms else "none"
        raise click.UsageError(f"BMAD_AUTH_ALGORITHMS: {named} cannot be used; there are {', '.join(ALGORITHMS)}.")
    try:
        keys = SigningKeys(settings.auth_issuer, settings.auth_jwks_url)
    except ValueError as error:
        raise click.UsageError(f"BMAD_AUTH_ISSUER and BMAD_AUTH_JWKS_URL: each {error}.") from None
    pinned = Pinned(
        settings.auth_issuer,
        settings.auth_audience or resource,
        settings.auth_algorithms,
        settings.auth_token_type,
        scope_words(settings),
    )
    return ProviderTokens(pinned, keys)
