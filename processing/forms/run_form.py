"""What a page asks beside the settings of a run: how results are written, until when, for how much."""

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

# A hyphen keeps these apart from settings, whose names are Python's.
PREFIX = "opt"
MILLI = 1000


class RunForm(forms.Form):
    """Options of a run; all of them have a default.

    Args:
        given: values to begin with, by their names on the page.
        folders: where results may go, as (id, label).
        priced: whether a picture costs anything, so that a highest price makes sense.
    """

    format = forms.ChoiceField(
        label=_("Format of the results"),
        required=False,
        choices=[("", _("As fits the picture")), *((name, name) for name in ("JPEG", "PNG", "WEBP", "TIFF"))],
    )
    quality = forms.IntegerField(
        label=_("Quality"),
        help_text=_("Of JPEG and WebP, 1 to 100."),
        required=False,
        min_value=1,
        max_value=100,
        initial=90,
    )
    folder = forms.ChoiceField(label=_("Results go to"), required=False)
    keep_folders = forms.BooleanField(
        label=_("Keep the folders that the pictures lie in"), required=False, initial=False
    )
    fresh = forms.BooleanField(
        label=_("Compute everything anew"),
        help_text=_(
            "Else the same picture with the same settings takes the result there is, and costs nothing."
        ),
        required=False,
    )
    deadline = forms.DateTimeField(
        label=_("Stop at"),
        help_text=_("What is not done by then is canceled."),
        required=False,
        input_formats=["%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"],
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )
    max_price = forms.DecimalField(
        label=_("Pay at most"),
        help_text=_("In credits. A run that could cost more is not begun."),
        required=False,
        min_value=0,
        max_digits=12,
        decimal_places=3,
    )
    mail = forms.BooleanField(label=_("Send me a mail when it is done"), required=False)
    table = forms.FileField(
        label=_("Settings for each picture"),
        help_text=_("A table, CSV or JSON, with a row for each picture that differs."),
        required=False,
        widget=forms.FileInput(attrs={"accept": ".csv,.json,.tsv,text/csv,application/json"}),
    )
    only_table = forms.BooleanField(label=_("Run only the pictures of the table"), required=False)

    prefix = PREFIX

    def __init__(
        self,
        data: Any = None,
        files: Any = None,
        *,
        given: Mapping[str, str] | None = None,
        folders: Iterable[tuple[str, str]] = (),
        priced: bool = False,
    ):
        named = {name: (given or {}).get(f"{PREFIX}-{name}") for name in self.base_fields}
        super().__init__(data, files, initial={name: text for name, text in named.items() if text})
        choices: Any = self.fields["folder"]
        choices.choices = [("", _("A new folder")), *folders]
        if not priced:
            del self.fields["max_price"]
        for field in self.fields.values():
            field.widget.attrs["class"] = _class_of(field)

    def clean_deadline(self) -> Any:
        given = self.cleaned_data["deadline"]
        if given is not None and given <= timezone.now():
            raise forms.ValidationError(_("This deadline has passed already."))
        return given

    def read_terms(self, owner: User) -> Terms:
        """Return what was chosen.

        Raises:
            Invalid: something is wrong with it. `fields` names it by its name on the page.
            NotFound: the folder is gone.
        """
        if not self.is_valid():
            fields = {f"{PREFIX}-{name}": str(texts[0]) for name, texts in self.errors.items()}
            raise Invalid(" ".join(fields.values()), code="invalid_options", fields=fields)
        chosen = self.cleaned_data
        price: Decimal | None = chosen.get("max_price")
        into = chosen["folder"]
        return Terms(
            options=Options(
                format=chosen["format"] or None,
                quality=chosen["quality"] or self.fields["quality"].initial,
                keep_folders=chosen["keep_folders"],
                reuse=not chosen["fresh"],
            ),
            output_folder=drive.get_folder(owner=owner, folder_id=into) if into else None,
            deadline_at=chosen["deadline"],
            max_price=None if price is None else int(price * MILLI),
            mail_when_done=chosen["mail"],
        )

    def read_table(self, schema: Any) -> list[ManifestRow]:
        """Return the rows of the table that was sent along, none without one. Raises Invalid, TooLarge."""
        sent = self.cleaned_data["table"]
        if sent is None:
            return []
        try:
            return manifests.read_table(sent.read(manifests.MAX_BYTES + 1), schema)
        except DomainError as error:
            error.fields.setdefault(f"{PREFIX}-table", error.message)
            raise

    def show_domain_error(self, error: DomainError) -> None:
        """Put a problem beside the option that it names; problems of rows beside the table."""
        self.is_valid()
        for name, text in error.fields.items():
            field = "table" if name.startswith("row ") else name.removeprefix(f"{PREFIX}-")
            if field in self.fields and not self.has_error(field):
                self.add_error(field, text if field != "table" else error.message)


def fields_of(job: Job) -> dict[str, str]:
    """Return a job's options as the form sends them; those left out are as usual."""
    options, usual = Options.model_validate(job.options), Options()
    chosen = {
        "format": options.format or "",
        "quality": str(options.quality) if options.quality != usual.quality else "",
        "keep_folders": "on" if options.keep_folders else "",
        "fresh": "" if options.reuse else "on",
        "mail": "on" if job.mail_when_done else "",
    }
    return {f"{PREFIX}-{name}": text for name, text in chosen.items() if text}


def _class_of(field: forms.Field) -> str:
    if isinstance(field.widget, forms.CheckboxInput):
        return "form-check-input"
    return "form-select" if isinstance(field.widget, forms.Select) else "form-control"
