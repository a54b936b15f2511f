"""Landlock: limit the files that this process may read and write. Needs Linux 5.13 or later.

The restriction cannot be undone, whatever code runs in the process afterwards.
Source: docs.kernel.org, «Landlock: unprivileged access control».
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
_ASK_VERSION = 1
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_TRUNCATE = 1 << 14
# The kernel rejects other rights in a rule for a single file.
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_READ_RIGHTS = _EXECUTE | _READ_FILE | _READ_DIR
# Number of file rights by ABI version. Later versions added linking, truncating and device commands.
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_NEWEST_RIGHTS = 16
# TCP bind and connect; abstract sockets and signals to other processes.
_NETWORK, _SCOPES = 3, 3
_NETWORK_VERSION, _SCOPES_VERSION = 4, 6


def restrict(readable: Iterable[str], writable: Iterable[str]) -> bool:
    """Limit this process to these files and folders, including subfolders. Needs PR_SET_NO_NEW_PRIVS.

    Missing paths are skipped. Returns whether the kernel enforces the limit.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE, None, ctypes.c_size_t(0), _ASK_VERSION)
    if version < 1:
        return False
    handled = (1 << _RIGHTS.get(version, _NEWEST_RIGHTS)) - 1
    network = _NETWORK if version >= _NETWORK_VERSION else 0
    scopes = _SCOPES if version >= _SCOPES_VERSION else 0
    attributes = struct.pack("<QQQ", handled, network, scopes)
    # Size of the struct in each ABI version, in bytes.
    size = 24 if version >= _SCOPES_VERSION else 16 if version >= _NETWORK_VERSION else 8
    rules = libc.syscall(_CREATE, attributes, ctypes.c_size_t(size), 0)
    if rules < 0:
        return False
    try:
        for path in readable:
            _allow(libc, rules, path, _READ_RIGHTS & handled)
        for path in writable:
            _allow(libc, rules, path, handled & ~_EXECUTE)
        return bool(libc.syscall(_RESTRICT, rules, 0) == 0)
    finally:
        os.close(rules)


def _allow(libc: ctypes.CDLL, rules: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _FILE_RIGHTS
        libc.syscall(_ADD_RULE, rules, _PATH_BENEATH, struct.pack("<Qi", rights, descriptor), 0)
    finally:
        os.close(descriptor)
