"""API serializers of files, folders, links and the drive."""
