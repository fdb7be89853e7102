"""How a client meets a server over TLS, and OpenSSL's errors in words.

Apart from `nodestate.tls` so that a command does not load what only a server needs.
"""

import ssl

from nodestate.errors import ConfigError


def client_context(
    *,
    ca_cert: str = "",
    ca_path: str = "",
    client_cert: str = "",
    client_key: str = "",
    skip_verify: bool = False,
) -> ssl.SSLContext:
    """Return how a client meets a server: the system's CAs unless others are given.

    `ConfigError` names the file that cannot be used.
    """
    if bool(client_cert) != bool(client_key):
        raise ConfigError("a client's certificate and its key go together")
    try:
        context = ssl.create_default_context(
            cafile=ca_cert or None, capath=ca_path or None
        )
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"CA {ca_cert or ca_path}: {reason_of(error)}") from error
    if skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if client_cert:
        try:
            context.load_cert_chain(client_cert, client_key, no_password)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"certificate {client_cert} with key {client_key}: {reason_of(error)}"
            ) from error
    return context


def reason_of(error: Exception) -> str:
    """Return OpenSSL's words without the place in its source, or the system's."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(error.verify_message)
    if reason := getattr(error, "reason", ""):
        return str(reason).replace("_", " ").lower()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)


def no_password() -> bytes:
    """Refuse a key that is encrypted: nobody is there to be asked."""
    raise ssl.SSLError(0, "the key is encrypted")
