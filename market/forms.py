"""Forms to upload weights and to edit the texts of a model."""

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
    """A new model or version: weights, name and options.

    Args:
        files: the weights in the user's drive.
    """

    file = forms.ChoiceField(label=_("Weights in your drive"), required=False)
    upload = forms.FileField(
        label=_("Or upload weights"), required=False, error_messages={"empty": _("This file is empty.")}
    )
    name = forms.CharField(
        label=_("Name"),
        max_length=NAME_LENGTH,
        help_text=_(
            "Part of its address: lowercase letters, digits, hyphens. "
            "The name of an existing model adds a version."
        ),
        widget=forms.TextInput(attrs={"autocomplete": "off", "pattern": "[a-z0-9]+(-[a-z0-9]+)*"}),
    )
    title = forms.CharField(
        label=_("Title"),
        max_length=TITLE_LENGTH,
        help_text=_("Shown on pages. Leave blank to derive it from the name."),
        required=False,
    )
    family = forms.ChoiceField(
        label=_("Family"),
        help_text=_(
            "The type of model. It is detected from the weights. Choose one only if detection fails."
        ),
        required=False,
    )
    config = forms.CharField(
        label="config.json",
        help_text=_(
            "The config.json of a Vision Transformer, with its labels. For ONNX it can name the "
            'classes: {"names": ["cat", "dog"]}. For a Hugging Face classifier, you can add the content of '
            "preprocessor_config.json."
        ),
        max_length=conversions.CONFIG_MAX_CHARACTERS,
        required=False,
        strip=True,
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false"}),
    )
    publish = forms.BooleanField(
        label=_("Share with everyone"),
        help_text=_("Everyone can find and run it. Otherwise only you can, until you share it."),
        required=False,
    )

    def __init__(self, *args: Any, files: Iterable[File], **kwargs: Any):
        super().__init__(*args, **kwargs)
        offered: Any = self.fields["file"]
        offered.choices = [("", _("Choose…")), *((str(file.pk), file.name) for file in files)]
        text = _("PyTorch (.pt, .pth), ONNX or safetensors. Upload files above %(n)d MB to your drive first.")
        self.fields["upload"].help_text = text % {"n": settings.UPLOAD_MAX_BYTES // 2**20}
        families: Any = self.fields["family"]
        known = [(family.key, family.title) for family in registry.all_families()]
        families.choices = [("", _("Detect automatically")), *known]

    def clean_name(self) -> str:
        return _checked(check_name, self.cleaned_data["name"])

    def clean_config(self) -> str:
        return _checked(conversions.check_config, self.cleaned_data["config"])

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        is_chosen = cleaned.get("file") or cleaned.get("upload")
        if not is_chosen and not self.has_error("file") and not self.has_error("upload"):
            self.add_error("file", _("Choose weights in your drive, or upload a file."))
        return cleaned

    def select_file(self, file: File) -> None:
        """Select weights uploaded with this form, so that the form can be shown again."""
        offered: Any = self.fields["file"]
        offered.choices = [*offered.choices, (str(file.pk), file.name)]
        data: Any = self.data
        data = data.copy()
        data["file"] = str(file.pk)
        self.data = data

    def show_domain_error(self, error: DomainError) -> None:
        """Add a domain error to the fields that it names."""
        fields = {"weights": "upload"}
        for name, text in (error.fields or {"": error.message}).items():
            field = fields.get(name, name)
            self.add_error(field if field in self.fields else None, text)


class AboutForm(forms.Form):
    """Title, summary and description of a model."""

    title = forms.CharField(label=_("Title"), max_length=TITLE_LENGTH)
    summary = forms.CharField(
        label=_("Summary"),
        max_length=SUMMARY_LENGTH,
        help_text=_("One sentence, shown on its card and below its title."),
        required=False,
    )
    description = forms.CharField(
        label=_("Description"),
        help_text=_("Markdown. HTML is shown as text, and images become links."),
        required=False,
        widget=forms.Textarea(attrs={"rows": 18, "maxlength": DESCRIPTION_LENGTH}),
    )

    def clean_description(self) -> str:
        return _checked(check_description, self.cleaned_data["description"])


def _checked(check: Callable[[str], str], text: str) -> str:
    """Return the text that `check` returns. Turns its error into a form error."""
    try:
        return check(text)
    except Invalid as error:
        raise forms.ValidationError(error.message) from error
