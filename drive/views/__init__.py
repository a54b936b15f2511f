"""Views of the drive's pages and of share links."""
