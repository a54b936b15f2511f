"""Results that an owner has already: what they are known by."""

import hashlib

from processing.inputs import Prepared
from processing.options import Options


def memo_key(prepared: Prepared, options: Options, sha256: str) -> str:
    """Return the digest (hex) of all that decides a picture's result.

    That is its bytes, the settings and versions of each step, the pictures that settings refer to, and how
    the result is written.
    """
    resources = sorted((name, tuple(digests)) for name, digests in prepared.resources.items())
    parts = (sha256, prepared.fingerprint, options.pixels_key(), repr(resources))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
