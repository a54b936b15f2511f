"""The drive's pages: looking, changing, uploading, and the bytes themselves."""
