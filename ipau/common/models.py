"""Base model of every table."""

from typing import Any

from django.db import models

from ipau.common.ids import uuid7


class BaseModel(models.Model):
    """A row with a time-ordered UUID as key, and the times of creation and last change."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    created_at = models.DateTimeField(auto_now_add=True, editable=False)
    updated_at = models.DateTimeField(auto_now=True, editable=False)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        name: Any = getattr(self, "name", None)
        return str(name or self.pk)
