"""Who runs the private services: we ourselves, or an unprivileged account where we are root.

PostgreSQL refuses to run as root. The account may be unable to reach the programs or the data folder, because
a folder above them is private (a checkout under /root, a temporary folder of mode 0700). Modes of folders
that are not ours are never loosened; instead the services get the one capability that lets them pass.
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
# The first only reads and passes; the second, which containers grant by default, also writes.
CAPABILITIES = ("dac_read_search", "dac_override")


@dataclass(frozen=True)
class ServiceAccount:
    """How to start a program for the services. `uid` None means: as we are."""

    uid: int | None = None
    gid: int | None = None
    capability: str | None = None
    programs: Path | None = None
    """Where the programs are, if not where they were installed."""
    temporary: Path | None = None
    """The folder with a copy of the programs, made because the account cannot reach them; ours to delete."""

    def own(self, path: Path) -> None:
        """Give one file or folder of the services to the account."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def own_tree(self, folder: Path) -> None:
        """Give a folder and what is in it to the account, if it belongs to somebody else."""
        if self.uid is None or folder.stat().st_uid == self.uid:
            return
        self.own(folder)
        for path in folder.rglob("*"):
            if not path.is_symlink():
                self.own(path)

    def popen(self, command: Sequence[str | Path], output: IO[bytes] | int) -> subprocess.Popen[bytes]:
        """Start a service as the leader of a process group of its own."""
        words = self._words(command)
        return subprocess.Popen(
            words,
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
        """Run a command to its end and return its output."""
        return subprocess.run(
            self._words(command),
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

    def _words(self, command: Sequence[str | Path]) -> list[str]:
        words = [str(word) for word in command]
        if self.capability is None:
            return words
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
            *words,
        ]

    @property
    def _user(self) -> int | None:
        # setpriv changes the identity itself, so that it can keep the capability.
        return None if self.capability else self.uid

    @property
    def _group(self) -> int | None:
        return None if self.capability else self.gid


def choose_account(*, folders: Sequence[Path], program: Path, program_root: Path) -> ServiceAccount:
    """Return an account that can run `program` and enter `folders`, which must exist.

    Raises:
        EmbeddedError: no way was found.
    """
    if os.geteuid() != 0:
        return ServiceAccount()
    account = _unprivileged()
    for folder in folders:
        account.own_tree(folder)
    home, programs = None, program_root
    if not _reaches(account, [], program):
        # The capability alone would not do: PostgreSQL asks access(2) for its programs, which ignores it.
        home, programs = _copy_programs(account, program_root)
    moved = programs / program.relative_to(program_root)
    for candidate in [account, *_with_capabilities(account)]:
        if _reaches(candidate, folders, moved):
            return replace(candidate, programs=programs, temporary=home)
    if home is not None:
        shutil.rmtree(home, ignore_errors=True)
    raise EmbeddedError(
        "PostgreSQL must not run as root, and the account that would run it cannot enter "
        f"{folders[0].parent}. Set IPAU_DATA to a folder that others can pass through (IPAU_DATA=/srv/ipau), "
        "run as an ordinary user, or set DATABASE_URL and REDIS_URL to services of your own."
    )


def _unprivileged() -> ServiceAccount:
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return ServiceAccount(uid=entry.pw_uid, gid=entry.pw_gid)
    raise EmbeddedError(
        f"PostgreSQL must not run as root, and there is no account named {' or '.join(ACCOUNTS)}. "
        "Run as an ordinary user, or set DATABASE_URL and REDIS_URL to services of your own."
    )


def _with_capabilities(account: ServiceAccount) -> list[ServiceAccount]:
    if shutil.which("setpriv") is None:
        return []
    return [replace(account, capability=name) for name in CAPABILITIES]


def _reaches(account: ServiceAccount, folders: Sequence[Path], program: Path) -> bool:
    # A shell of that account tries it: the rules (modes, ACLs, namespaces) are the kernel's own.
    script = 'program=$1; shift; for folder; do cd "$folder" || exit 1; done; exec "$program" --version'
    return account.run(["/bin/sh", "-c", script, "sh", program, *folders]).returncode == 0


def _copy_programs(account: ServiceAccount, program_root: Path) -> tuple[Path, Path]:
    """Copy the programs' folder; return the temporary folder and the copy in it."""
    package = program_root.parent
    home = Path(tempfile.mkdtemp(prefix="ipau-programs-"))
    copied = home / package.name / program_root.name
    shutil.copytree(program_root, copied, ignore=_superfluous)
    # A wheel keeps the libraries its programs were linked with in a folder beside the package.
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, home / libraries.name)
    account.own(home)
    account.own_tree(home / package.name)
    return home, copied


def _superfluous(folder: str, names: list[str]) -> set[str]:
    """Name what no service needs of PostgreSQL's package: clients, headers, static libraries."""
    if Path(folder).name == "bin":
        return set(names) - {"postgres", "initdb"}
    return {name for name in names if name in ("include", "pgxs") or name.endswith(".a")}


def _environment() -> dict[str, str]:
    # PG* variables of the person at the terminal would point our tools at another server.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}
