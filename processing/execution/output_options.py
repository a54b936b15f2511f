"""How a job's results are written and kept."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from workers.media.encode import DEFAULT_QUALITY, OutputOptions


class Options(BaseModel):
    """Frozen into the job.

    `format` None leaves the choice to the operation and the picture; `quality` is that of
    JPEG and WebP. With neither chosen, results of lossless images are lossless.
    `keep_folders` puts results into folders as their pictures lie in; `reuse` takes results that the owner
    has already.
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
        """What of this decides the bytes of a result."""
        return f"{self.format or 'as-is'}:{self.quality}"
