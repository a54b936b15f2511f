"""Landlock: the kernel's own list of what a process may still read, and where it may write. Linux 5.13 on.

Whoever has given rights away so never gets them back, whatever code runs in the process afterwards.
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
# Of a rule for a single file no more than these may be said.
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_READING = _EXECUTE | _READ_FILE | _READ_DIR
# How many rights on files each version knows: linking elsewhere, truncating and device commands came later.
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_NEWEST_RIGHTS = 16
# Binding and connecting by TCP; abstract sockets and signals to others.
_NETWORK, _SCOPES = 3, 3
_NETWORK_VERSION, _SCOPES_VERSION = 4, 6


def restrict(readable: Iterable[str], writable: Iterable[str]) -> bool:
    """Leave this process these files and folders, with all below them. Needs PR_SET_NO_NEW_PRIVS.

    Places that do not exist are passed over. Returns whether the kernel did it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE, None, ctypes.c_size_t(0), _ASK_VERSION)
    if version < 1:
        return False
    handled = (1 << _RIGHTS.get(version, _NEWEST_RIGHTS)) - 1
    network = _NETWORK if version >= _NETWORK_VERSION else 0
    scopes = _SCOPES if version >= _SCOPES_VERSION else 0
    attributes = struct.pack("<QQQ", handled, network, scopes)
    # Each version knows so much of it.
    size = 24 if version >= _SCOPES_VERSION else 16 if version >= _NETWORK_VERSION else 8
    rules = libc.syscall(_CREATE, attributes, ctypes.c_size_t(size), 0)
    if rules < 0:
        return False
    try:
        for place in readable:
            _allow(libc, rules, place, _READING & handled)
        for place in writable:
            _allow(libc, rules, place, handled & ~_EXECUTE)
        return bool(libc.syscall(_RESTRICT, rules, 0) == 0)
    finally:
        os.close(rules)


def _allow(libc: ctypes.CDLL, rules: int, place: str, rights: int) -> None:
    try:
        descriptor = os.open(place, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _OF_FILES
        libc.syscall(_ADD_RULE, rules, _PATH_BENEATH, struct.pack("<Qi", rights, descriptor), 0)
    finally:
        os.close(descriptor)
