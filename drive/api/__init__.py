"""The drive over the API. Resumable uploads are in `drive.api.uploads`."""
