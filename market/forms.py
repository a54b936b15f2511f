"""What a page asks of whoever makes a model."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from drive.models import File
from ipau.common.errors import DomainError
from market import conversions
from market.pipelines import NAME_LENGTH, TITLE_LENGTH
from workers import registry


class ModelForm(forms.Form):
    """A model to be: which weights, and what it is called.

    Args:
        files: the weights of the person's drive.
    """

    file = forms.ChoiceField(label=_("Weights of your drive"), required=False)
    upload = forms.FileField(
        label=_("Or upload weights"),
        help_text=_("PyTorch (.pt, .pth), ONNX or safetensors. Larger ones go through the drive first."),
        required=False,
    )
    name = forms.CharField(
        label=_("Name"),
        max_length=NAME_LENGTH,
        help_text=_(
            "Part of its address: small letters, digits, dashes. That of a model of yours adds a version."
        ),
        widget=forms.TextInput(attrs={"autocomplete": "off", "pattern": "[a-z0-9]+(-[a-z0-9]+)*"}),
    )
    title = forms.CharField(
        label=_("Title"),
        max_length=TITLE_LENGTH,
        help_text=_("What people read. Without one it is made from the name."),
        required=False,
    )
    family = forms.ChoiceField(
        label=_("Family"),
        help_text=_(
            "What kind of model it is. It is recognised from the weights; choose only where that fails."
        ),
        required=False,
    )
    config = forms.CharField(
        label="config.json",
        help_text=_("For Vision Transformers: the file that lies beside the weights. It holds the labels."),
        max_length=conversions.CONFIG_MAX_CHARACTERS,
        required=False,
        strip=True,
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false"}),
    )
    publish = forms.BooleanField(
        label=_("Share it at once"),
        help_text=_("Everybody finds and runs it. Otherwise only you do, until you share it."),
        required=False,
    )

    def __init__(self, *args: Any, files: Iterable[File], **kwargs: Any):
        super().__init__(*args, **kwargs)
        offered: Any = self.fields["file"]
        offered.choices = [("", _("Choose…")), *((str(file.pk), file.name) for file in files)]
        families: Any = self.fields["family"]
        known = [(family.key, family.title) for family in registry.all_families()]
        families.choices = [("", _("Recognise it")), *known]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if not cleaned.get("file") and not cleaned.get("upload") and not self.has_error("file"):
            self.add_error("file", _("Choose weights of your drive, or upload some."))
        return cleaned

    def show_domain_error(self, error: DomainError) -> None:
        """Put a problem beside the field that it names."""
        fields = {"weights": "upload"}
        for name, text in (error.fields or {"": error.message}).items():
            field = fields.get(name, name)
            self.add_error(field if field in self.fields else None, text)
