"""Form of the options of a run: output format, folder, deadline, highest price, table of parameters."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from django import forms
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from drive.files import services as drive
from ipau.common.errors import DomainError, Invalid
from processing.execution.output_options import Options
from processing.jobs import manifests
from processing.jobs.manifests import ManifestRow
from processing.models import Job
from processing.services import Terms

# Field names are `opt-…`. Names of parameters are Python identifiers, so they have no hyphen.
PREFIX = "opt"
MILLI = 1000


class RunForm(forms.Form):
    """Options of a run. All of them have a default.

    Args:
        initial: initial values by field name of the page.
        folders: choices of the output folder, as (id, label).
        priced: whether images cost anything. If not, there is no highest price.
    """

    format = forms.ChoiceField(
        label=_("Output format"),
        required=False,
        choices=[
            ("", _("Automatic")),
            *((name, name) for name in ("JPEG", "PNG", "WEBP", "TIFF")),
        ],
    )
    quality = forms.IntegerField(
        label=_("Quality"),
        help_text=_("For JPEG and WebP, 1 to 100."),
        required=False,
        min_value=1,
        max_value=100,
        initial=90,
    )
    folder = forms.ChoiceField(label=_("Output folder"), required=False)
    keep_folders = forms.BooleanField(
        label=_("Keep the folder structure of the images"), required=False, initial=False
    )
    fresh = forms.BooleanField(
        label=_("Ignore earlier results"),
        help_text=_("Otherwise identical earlier results are reused for free."),
        required=False,
    )
    deadline = forms.DateTimeField(
        label=_("Deadline"),
        help_text=_("Unfinished images are canceled."),
        required=False,
        input_formats=["%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"],
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )
    max_price = forms.DecimalField(
        label=_("Maximum price"),
        help_text=_("In credits. A run that could cost more does not start."),
        required=False,
        min_value=0,
        max_digits=12,
        decimal_places=3,
    )
    mail = forms.BooleanField(label=_("E-mail me when the job ends"), required=False)
    table = forms.FileField(
        label=_("Settings for each image"),
        help_text=_("A CSV or JSON table with one row for each image that has its own settings."),
        required=False,
        widget=forms.FileInput(attrs={"accept": ".csv,.json,.tsv,text/csv,application/json"}),
    )
    only_table = forms.BooleanField(label=_("Run only the images in the table"), required=False)

    prefix = PREFIX

    def __init__(
        self,
        data: Any = None,
        files: Any = None,
        *,
        initial: Mapping[str, str] | None = None,
        folders: Iterable[tuple[str, str]] = (),
        priced: bool = False,
    ):
        named = {name: (initial or {}).get(f"{PREFIX}-{name}") for name in self.base_fields}
        super().__init__(data, files, initial={name: text for name, text in named.items() if text})
        choices: Any = self.fields["folder"]
        choices.choices = [("", _("A new folder")), *folders]
        if not priced:
            del self.fields["max_price"]
        for field in self.fields.values():
            field.widget.attrs["class"] = _class_of(field)

    def clean_deadline(self) -> Any:
        deadline = self.cleaned_data["deadline"]
        if deadline is not None and deadline <= timezone.now():
            raise forms.ValidationError(_("This deadline has passed. Enter a later time."))
        return deadline

    def read_terms(self, owner: User) -> Terms:
        """Return the chosen options.

        Raises:
            Invalid: an option is wrong. `fields` has the field names of the page.
            NotFound: the output folder does not exist.
        """
        if not self.is_valid():
            fields = {f"{PREFIX}-{name}": str(texts[0]) for name, texts in self.errors.items()}
            raise Invalid(" ".join(fields.values()), code="invalid_options", fields=fields)
        chosen = self.cleaned_data
        price: Decimal | None = chosen.get("max_price")
        folder_id = chosen["folder"]
        return Terms(
            options=Options(
                format=chosen["format"] or None,
                quality=chosen["quality"] or self.fields["quality"].initial,
                keep_folders=chosen["keep_folders"],
                reuse=not chosen["fresh"],
            ),
            output_folder=drive.get_folder(owner=owner, folder_id=folder_id) if folder_id else None,
            deadline_at=chosen["deadline"],
            max_price=None if price is None else int(price * MILLI),
            mail_when_done=chosen["mail"],
        )

    def read_table(self, schema: Any) -> list[ManifestRow]:
        """Return the rows of the uploaded table, or an empty list. Raises Invalid, TooLarge."""
        upload = self.cleaned_data["table"]
        if upload is None:
            return []
        try:
            return manifests.read_table(upload.read(manifests.MAX_BYTES + 1), schema)
        except DomainError as error:
            error.fields.setdefault(f"{PREFIX}-table", error.message)
            raise

    def show_domain_error(self, error: DomainError) -> None:
        """Add an error to the options that it names. Errors of rows go to the table."""
        self.is_valid()
        for name, text in error.fields.items():
            field = "table" if name.startswith("row ") else name.removeprefix(f"{PREFIX}-")
            if field in self.fields and not self.has_error(field):
                self.add_error(field, text if field != "table" else error.message)


def fields_of(job: Job) -> dict[str, str]:
    """Return the options of a job as the form sends them, without defaults."""
    options, defaults = Options.model_validate(job.options), Options()
    chosen = {
        "format": options.format or "",
        "quality": str(options.quality) if options.quality != defaults.quality else "",
        "keep_folders": "on" if options.keep_folders else "",
        "fresh": "" if options.reuse else "on",
        "mail": "on" if job.mail_when_done else "",
    }
    return {f"{PREFIX}-{name}": text for name, text in chosen.items() if text}


def _class_of(field: forms.Field) -> str:
    if isinstance(field.widget, forms.CheckboxInput):
        return "form-check-input"
    return "form-select" if isinstance(field.widget, forms.Select) else "form-control"
