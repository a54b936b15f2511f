"""API endpoints of the drive. Resumable uploads (tus) are in `drive.api.uploads`."""
