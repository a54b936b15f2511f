"""The tables of the drive.

A user has one tree of folders with files in them. A file is a name; its bytes are a blob, which many files
may share.

- Folder: a folder of a user (`owner`), in another folder (`parent`), or at the top of the drive if that
  is null.
- File: a name in a folder (`folder`), with its content (`blob`), type, state and metadata.
- Blob: bytes in the storage, keyed by their SHA-256. Immutable; the sweep deletes it once no row refers
  to it.
- Thumbnail: a small WebP (`blob`) of an image (`source`, also a blob), one for each size.
- Upload: a resumable upload in progress into a folder. Its last byte turns it into a file (`file`).
- CreationKey: the idempotency key of a request of a user, and the file, folder or share that the request
  created.
- Share: a link by which visitors see one file or one folder, with a password, an expiry and a count of
  visits.
- DriveUsage: bytes and files of a user, trash included, for the quota. Database triggers write it.

Abstract: `Trashable`, for files and folders. Rows trashed by one action share a `trash_root`.
"""

from drive.models.blobs import Blob, NewThumbnail, Thumbnail
from drive.models.creation_keys import CreationKey
from drive.models.files import File, FileKind, FileQuerySet, FileState, Folder, FolderQuerySet, Trashable
from drive.models.shares import Share, ShareQuerySet
from drive.models.uploads import OnConflict, Upload
from drive.models.usage import DriveUsage

__all__ = [
    "Blob",
    "CreationKey",
    "DriveUsage",
    "File",
    "FileKind",
    "FileQuerySet",
    "FileState",
    "Folder",
    "FolderQuerySet",
    "NewThumbnail",
    "OnConflict",
    "Share",
    "ShareQuerySet",
    "Thumbnail",
    "Trashable",
    "Upload",
]
