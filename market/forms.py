"""What a page asks of whoever makes a model."""

from collections.abc import Callable, Iterable
from typing import Any

from django import forms
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from drive.models import File
from ipau.common.errors import DomainError, Invalid
from market.listings.names import NAME_LENGTH, SUMMARY_LENGTH, TITLE_LENGTH, check_name
from market.weights import conversions
from market.weights.services import DESCRIPTION_LENGTH, check_description
from workers import registry


class ModelForm(forms.Form):
    """A model to be: which weights, and what it is called.

    Args:
        files: the weights of the person's drive.
    """

    file = forms.ChoiceField(label=_("Weights of your drive"), required=False)
    upload = forms.FileField(
        label=_("Or upload weights"), required=False, error_messages={"empty": _("This file is empty.")}
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
        help_text=_(
            "The file beside the weights of a Vision Transformer, with its labels. For ONNX it can name the "
            'classes: {"names": ["cat", "dog"]}. Of a classifier of Hugging Face, what '
            "preprocessor_config.json has may be added to it."
        ),
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
        taken = _("PyTorch (.pt, .pth), ONNX or safetensors. Above %(n)d MB they go through the drive first.")
        self.fields["upload"].help_text = taken % {"n": settings.UPLOAD_MAX_BYTES // 2**20}
        families: Any = self.fields["family"]
        known = [(family.key, family.title) for family in registry.all_families()]
        families.choices = [("", _("Recognise it")), *known]

    def clean_name(self) -> str:
        return _checked(check_name, self.cleaned_data["name"])

    def clean_config(self) -> str:
        return _checked(conversions.check_config, self.cleaned_data["config"])

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        is_chosen = cleaned.get("file") or cleaned.get("upload")
        if not is_chosen and not self.has_error("file") and not self.has_error("upload"):
            self.add_error("file", _("Choose weights of your drive, or upload some."))
        return cleaned

    def keep(self, file: File) -> None:
        """Choose weights that have come to the drive with this form, for it is shown again."""
        offered: Any = self.fields["file"]
        offered.choices = [*offered.choices, (str(file.pk), file.name)]
        sent: Any = self.data
        changed = sent.copy()
        changed["file"] = str(file.pk)
        self.data = changed

    def show_domain_error(self, error: DomainError) -> None:
        """Put a problem beside the field that it names."""
        fields = {"weights": "upload"}
        for name, text in (error.fields or {"": error.message}).items():
            field = fields.get(name, name)
            self.add_error(field if field in self.fields else None, text)


class AboutForm(forms.Form):
    """What people read of a model."""

    title = forms.CharField(label=_("Title"), max_length=TITLE_LENGTH)
    summary = forms.CharField(
        label=_("Summary"),
        max_length=SUMMARY_LENGTH,
        help_text=_("One sentence, shown on its card and below its title."),
        required=False,
    )
    description = forms.CharField(
        label=_("Description"),
        help_text=_("In Markdown. HTML is shown as it is written, and pictures become links."),
        required=False,
        widget=forms.Textarea(attrs={"rows": 18, "maxlength": DESCRIPTION_LENGTH}),
    )

    def clean_description(self) -> str:
        return _checked(check_description, self.cleaned_data["description"])


def _checked(check: Callable[[str], str], text: str) -> str:
    """Return a text as a service would take it, or say beside its field why it would not."""
    try:
        return check(text)
    except Invalid as error:
        raise forms.ValidationError(error.message) from error
