"""The tables of the drive."""

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
