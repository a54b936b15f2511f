"""Filesystem storage backend for blobs, with atomic writes."""

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
    """Filesystem storage. Names are digests of the content, so overwriting a file does not change it.

    Only the site's system user and the members of `group`, if set, can read the folder.
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
        """Make the top folder private, which closes everything in it, whatever its modes.

        Raises:
            GroupError: the group cannot be used.
        """
        top = Path(self.location)
        if not top.is_dir():
            self.modes.make_folder(top, below=top)
        # A folder that an operator mounted may belong to another system user.
        with contextlib.suppress(PermissionError):
            self.modes.apply(top, self.modes.folder)

    def fix_modes(self) -> int:
        """Set the modes of all folders and files; return the number changed. Raises GroupError."""
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
        """Close the folder on the first write of this process: not every site starts with `up`."""
        if not self._is_closed:
            self.close()
            self._is_closed = True
