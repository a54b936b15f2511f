"""Output options of a job: format, quality, folders and result reuse."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from workers.media.encode import DEFAULT_QUALITY, OutputOptions


class Options(BaseModel):
    """Output options, fixed when the job is submitted.

    Attributes:
        format: None lets the operation and the image decide.
        quality: for JPEG and WebP. With default format and quality, results of lossless images are lossless.
        keep_folders: put results into the same folder structure as their images.
        reuse: reuse earlier results of the owner.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["JPEG", "PNG", "WEBP", "TIFF"] | None = None
    quality: int = Field(default=DEFAULT_QUALITY, ge=1, le=100)
    keep_folders: bool = False
    reuse: bool = True

    def output(self) -> OutputOptions:
        quality = None if self.quality == DEFAULT_QUALITY else self.quality
        return OutputOptions(format=self.format, quality=quality)

    def pixels_key(self) -> str:
        """Return the options that affect the bytes of a result, as a cache key."""
        return f"{self.format or 'as-is'}:{self.quality}"
