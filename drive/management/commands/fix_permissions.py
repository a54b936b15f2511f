"""`./manage.py fix_permissions`: set the modes of all stored files after an upgrade or a change of group."""

from typing import Any

from django.core.files.storage import storages
from django.core.management.base import BaseCommand, CommandError

from drive.storage.filesystem import ContentStorage
from ipau.common.private_files import GroupError


class Command(BaseCommand):
    help = (
        "Make the stored files private, or readable by the group IPAU_FILES_GROUP if it is set. At each "
        "start, the site sets only the mode of their top folder. This command sets the mode of each file."
    )
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        storage = storages["default"]
        if not isinstance(storage, ContentStorage):
            self.stdout.write("Nothing to do: the files are in a bucket, which has no modes.")
            return
        try:
            changed = storage.fix_modes()
        except GroupError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Changed the mode of {changed} folders and files in {storage.location}.")
