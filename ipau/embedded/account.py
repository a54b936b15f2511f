"""System account of the embedded services: the current user, or an unprivileged account if that is root.

PostgreSQL refuses to run as root. The account may lack access to the programs or the data folder, because a
parent folder is private (a checkout under /root, a temporary folder with mode 0700). We never change the
modes of folders that are not ours. Instead, the services get the one capability that grants access.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from ipau.embedded.errors import EmbeddedError

ACCOUNTS = ("postgres", "nobody")
# The first allows only reading and traversal. The second, which containers grant by default, also writing.
CAPABILITIES = ("dac_read_search", "dac_override")


@dataclass(frozen=True)
class ServiceAccount:
    """How to start a program of the services. `uid` None: as the current user."""

    uid: int | None = None
    gid: int | None = None
    capability: str | None = None
    programs: Path | None = None
    """Folder of the programs, if not the one where they were installed."""
    temporary: Path | None = None
    """Temporary folder with a copy of the programs, if the account cannot reach the originals."""

    def own(self, path: Path) -> None:
        """Make the account the owner of a file or folder."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def own_tree(self, folder: Path) -> None:
        """Make the account the owner of a folder and its contents, if the folder has another owner."""
        if self.uid is None or folder.stat().st_uid == self.uid:
            return
        self.own(folder)
        for path in folder.rglob("*"):
            if not path.is_symlink():
                self.own(path)

    def popen(self, command: Sequence[str | Path], output: IO[bytes] | int) -> subprocess.Popen[bytes]:
        """Start a service as the leader of its own process group."""
        return subprocess.Popen(
            self._argv(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            umask=0o077,
            process_group=0,
            env=_environment(),
            user=self._user,
            group=self._group,
            extra_groups=None if self._user is None else [],
        )

    def run(self, command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
        """Run a command to completion; return its status and output."""
        return subprocess.run(
            self._argv(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd="/",
            umask=0o077,
            env=_environment(),
            check=False,
            user=self._user,
            group=self._group,
            extra_groups=None if self._user is None else [],
        )

    def _argv(self, command: Sequence[str | Path]) -> list[str]:
        argv = [str(argument) for argument in command]
        if self.capability is None:
            return argv
        return [
            "setpriv",
            f"--reuid={self.uid}",
            f"--regid={self.gid}",
            "--clear-groups",
            "--no-new-privs",
            f"--inh-caps=-all,+{self.capability}",
            f"--ambient-caps=-all,+{self.capability}",
            f"--bounding-set=-all,+{self.capability}",
            "--",
            *argv,
        ]

    @property
    def _user(self) -> int | None:
        # setpriv switches the user itself, so that it can keep the capability.
        return None if self.capability else self.uid

    @property
    def _group(self) -> int | None:
        return None if self.capability else self.gid


def choose_account(*, folders: Sequence[Path], program: Path, program_root: Path) -> ServiceAccount:
    """Return an account that can run `program` and enter `folders`, which must exist.

    Raises:
        EmbeddedError: there is no such account.
    """
    if os.geteuid() != 0:
        return ServiceAccount()
    account = _unprivileged()
    for folder in folders:
        account.own_tree(folder)
    home, programs = None, program_root
    if not _reaches(account, [], program):
        # The capability is not enough: PostgreSQL checks its programs with access(2), which ignores it.
        home, programs = _copy_programs(account, program_root)
    reachable = programs / program.relative_to(program_root)
    for candidate in [account, *_with_capabilities(account)]:
        if _reaches(candidate, folders, reachable):
            return replace(candidate, programs=programs, temporary=home)
    if home is not None:
        shutil.rmtree(home, ignore_errors=True)
    raise EmbeddedError(
        "PostgreSQL cannot run as root, and the account that would run it cannot enter "
        f"{folders[0].parent}. Set IPAU_DATA to a folder that others can enter (IPAU_DATA=/srv/ipau), "
        "run as an ordinary user, or set DATABASE_URL and REDIS_URL to your own servers."
    )


def _unprivileged() -> ServiceAccount:
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return ServiceAccount(uid=entry.pw_uid, gid=entry.pw_gid)
    raise EmbeddedError(
        f"PostgreSQL cannot run as root, and there is no account named {' or '.join(ACCOUNTS)}. "
        "Run as an ordinary user, or set DATABASE_URL and REDIS_URL to your own servers."
    )


def _with_capabilities(account: ServiceAccount) -> list[ServiceAccount]:
    if shutil.which("setpriv") is None:
        return []
    return [replace(account, capability=name) for name in CAPABILITIES]


def _reaches(account: ServiceAccount, folders: Sequence[Path], program: Path) -> bool:
    # Let a shell of that account try it: only the kernel knows all rules (modes, ACLs, namespaces).
    script = 'program=$1; shift; for folder; do cd "$folder" || exit 1; done; exec "$program" --version'
    return account.run(["/bin/sh", "-c", script, "sh", program, *folders]).returncode == 0


def _copy_programs(account: ServiceAccount, program_root: Path) -> tuple[Path, Path]:
    """Copy the folder of the programs; return the temporary folder and the copy in it."""
    package = program_root.parent
    home = Path(tempfile.mkdtemp(prefix="ipau-programs-"))
    copy = home / package.name / program_root.name
    shutil.copytree(program_root, copy, ignore=_superfluous)
    # A wheel stores the shared libraries of its programs in a folder next to the package.
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, home / libraries.name)
    account.own(home)
    account.own_tree(home / package.name)
    return home, copy


def _superfluous(folder: str, names: list[str]) -> set[str]:
    """Return the files of PostgreSQL's package that no service needs: clients, headers, static libraries."""
    if Path(folder).name == "bin":
        return set(names) - {"postgres", "initdb"}
    return {name for name in names if name in ("include", "pgxs") or name.endswith(".a")}


def _environment() -> dict[str, str]:
    # The user's PG* variables would make our tools connect to another server.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**env, "LC_ALL": "C", "TZ": "UTC"}
