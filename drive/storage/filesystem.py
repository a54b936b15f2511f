"""Where the embedded site keeps bytes: a folder in which a name appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

from django.core.files import File
from django.core.files.storage import FileSystemStorage
from django.utils.deconstruct import deconstructible

from ipau.common.private_files import Modes


@deconstructible(path="drive.storage.filesystem.ContentStorage")
class ContentStorage(FileSystemStorage):
    """Names are digests of the content, so writing one twice replaces it by the same bytes.

    Only the site's own user can read the folder, and the members of `group` where one is named.
    """

    def __init__(self, *args: Any, group: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._group = group
        self._is_closed = False

    @cached_property
    def modes(self) -> Modes:
        """The modes of folders and files. Raises GroupError."""
        return Modes.for_group(self._group)

    def close(self) -> None:
        """Make the top folder private, which shuts everything in it at once, whatever modes that has.

        Raises:
            GroupError: the group cannot be used.
        """
        top = Path(self.location)
        if not top.is_dir():
            self.modes.make_folder(top, below=top)
        # Of a folder that an operator mounted, somebody else may be the owner.
        with contextlib.suppress(PermissionError):
            self.modes.apply(top, self.modes.folder)

    def fix_modes(self) -> int:
        """Set the modes of all folders and files, and return how many were wrong. Raises GroupError."""
        modes, top = self.modes, Path(self.location)
        return modes.apply_below(top) if top.is_dir() else 0

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        return name

    def _save(self, name: str, content: File[bytes]) -> str:
        target = Path(self.path(name))
        self._close_once()
        self.modes.make_folder(target.parent, below=Path(self.location))
        handle, part = tempfile.mkstemp(dir=target.parent, prefix=".part-")
        try:
            with os.fdopen(handle, "wb") as out:
                self.modes.apply(handle, self.modes.file)
                for chunk in content.chunks():
                    out.write(chunk)
            os.replace(part, target)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)
            raise
        return name

    def _close_once(self) -> None:
        """Close the folder when this process first writes: not every site starts with `up`."""
        if not self._is_closed:
            self.close()
            self._is_closed = True
