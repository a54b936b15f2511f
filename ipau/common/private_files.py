"""Modes of the folders and files that store users' data: readable by their owner, or also by one group.

The modes are set explicitly, so the umask of the user who starts the site does not matter.
"""

import contextlib
import grp
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Files that the started programs create are private too.
UMASK = 0o077


class GroupError(Exception):
    """The configured group cannot be used. The message says why and what to do."""


@dataclass(frozen=True)
class Modes:
    """Modes of private folders and files. `gid` None: only the owner can read them."""

    gid: int | None = None

    @classmethod
    def for_group(cls, name: str) -> "Modes":
        """Return the modes that let the group `name` read. An empty name means no group.

        Raises:
            GroupError: the group does not exist, or this process may not assign files to it.
        """
        if not name:
            return cls()
        try:
            gid = grp.getgrnam(name).gr_gid
        except KeyError:
            raise GroupError(
                f"IPAU_FILES_GROUP names the group {name}, which does not exist on this machine."
            ) from None
        if os.geteuid() != 0 and gid not in {os.getegid(), *os.getgroups()}:
            raise GroupError(
                f"IPAU_FILES_GROUP names the group {name}, and the user of the site is not a member of it. "
                f"Add the user (usermod --append --groups {name} <user>) and start the site again."
            )
        return cls(gid)

    @property
    def folder(self) -> int:
        return 0o700 if self.gid is None else 0o2750

    @property
    def file(self) -> int:
        return 0o600 if self.gid is None else 0o640

    def apply(self, target: Path | int, mode: int) -> bool:
        """Set group and mode of a folder or file (a path or a descriptor); return whether they changed."""
        current = os.stat(target)
        wrong_group = self.gid is not None and current.st_gid != self.gid
        if not wrong_group and stat.S_IMODE(current.st_mode) == mode:
            return False
        if wrong_group:
            # Before chmod: chown clears the setgid bit.
            os.chown(target, -1, self.gid or 0)
        os.chmod(target, mode)
        return True

    def make_folder(self, folder: Path, *, below: Path) -> None:
        """Create `folder`, and missing parents up to and including `below`."""
        if folder.is_dir():
            return
        if folder == below:
            folder.parent.mkdir(parents=True, exist_ok=True)
        else:
            self.make_folder(folder.parent, below=below)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            return
        self.apply(folder, self.folder)

    def apply_below(self, top: Path) -> int:
        """Set the modes of a folder and everything in it; return how many changed."""
        changed = int(self.apply(top, self.folder))
        for place, folders, files in os.walk(top):
            for names, mode in ((folders, self.folder), (files, self.file)):
                for name in names:
                    path = Path(place, name)
                    # The file may have been deleted. Symbolic links may point to files of others.
                    with contextlib.suppress(FileNotFoundError):
                        changed += not path.is_symlink() and self.apply(path, mode)
        return changed


PRIVATE = Modes()


@contextlib.contextmanager
def process_umask(mask: int) -> Iterator[None]:
    """Set the umask of this process and of processes that it starts, while the block runs."""
    previous = os.umask(mask)
    try:
        yield
    finally:
        os.umask(previous)
