"""Archives of a model's folder, as a browser packs what Hugging Face saves: refused with what to upload."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from workers.checkpoints.open import open_upload
from workers.checkpoints.torch_zip import read_torch
from workers.checkpoints.upload import Refused
from workers.formats.byte_source import ByteSource


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(
    "name", ["model.safetensors", "vit/model.safetensors", "onnx/model.onnx", "pytorch_model.bin"]
)
def test_a_folder_in_an_archive_is_refused_with_what_to_upload(
    name: str, packing: int, tmp_path: Path
) -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", packing) as archive:
        for member in ("config.json", "preprocessor_config.json", name):
            archive.writestr(member, b"{}" * 50)
    (tmp_path / "model.zip").write_bytes(target.getvalue())
    with pytest.raises(Refused, match=r"Upload only the weights in it, such as model\.safetensors") as caught:
        open_upload(tmp_path / "model.zip")
    assert caught.value.code == "archive"
    # The drive says the same where it is uploaded.
    with pytest.raises(Refused, match=r"with the text of its config\.json"):
        read_torch(ByteSource(io.BytesIO(target.getvalue())))
