"""One TLS connection as bytes in and bytes out, with no socket in sight.

OpenSSL does all that needs a key; here it is only fed and emptied. Whatever it cannot
take (changed, repeated, missing, misplaced or cut records, and peers that cannot prove
who they are) is a `PeerRefusedError`, after which nothing is decrypted any more.
"""

import ssl
from typing import Final

from nodestate.client_tls import reason_of
from nodestate.errors import PeerRefusedError
from nodestate.tls import PeerTls

READ_BYTES: Final = 64 << 10


class TlsStream:
    """One end; `peer_name` is empty until the other side has proved who it is."""

    def __init__(self, tls: PeerTls, *, is_accepting: bool) -> None:
        self.peer_name = ""
        self.has_ended = False
        self._tls = tls
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        contexts = tls.contexts
        self._session = (
            contexts.accepting.wrap_bio(
                self._incoming, self._outgoing, server_side=True
            )
            if is_accepting
            else contexts.dialling.wrap_bio(self._incoming, self._outgoing)
        )

    def start(self) -> bytes:
        """Return what is to be sent first; empty for the end that accepts."""
        self._shake_hands()
        return self._outgoing.read()

    def feed(self, data: bytes) -> bytes:
        """Take what arrived, and return what of the other side's words it completes.

        Look at `peer_name`, `has_ended` and `take_outgoing` after it, the last also
        after a `PeerRefusedError`: it tells the other side why.
        """
        if self.has_ended:
            raise PeerRefusedError("bytes after the end")
        try:
            self._incoming.write(data)
            if not self.peer_name:
                self._shake_hands()
            return self._read() if self.peer_name else b""
        except ssl.SSLError as error:
            self.has_ended = True
            raise PeerRefusedError(f"TLS: {reason_of(error)}") from error
        except PeerRefusedError:
            self.has_ended = True
            raise

    def seal(self, data: bytes) -> bytes:
        """Return what is to be sent for `data` to arrive; nothing once it has ended."""
        assert self.peer_name, "nobody is there yet"
        if self.has_ended:
            return b""
        view = memoryview(data)
        while view:
            view = view[self._session.write(view) :]
        return self._outgoing.read()

    def take_outgoing(self) -> bytes:
        """Return what TLS has to say by itself."""
        return self._outgoing.read()

    def _shake_hands(self) -> None:
        try:
            self._session.do_handshake()
        except ssl.SSLWantReadError:
            return
        self.peer_name = self._tls.peer_name(self._session)

    def _read(self) -> bytes:
        pieces: list[bytes] = []
        try:
            while piece := self._session.read(READ_BYTES):
                pieces.append(piece)
            self.has_ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.has_ended = True
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
