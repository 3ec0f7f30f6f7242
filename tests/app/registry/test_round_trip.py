import torch

from models.checkpoint import Manifest, verify_directory
from models.families import get_family


def test_a_trained_checkpoint_comes_back_bit_for_bit(
    digits_service, digits, client, admin_headers, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("downloaded")
    versions = "/v1/models/digits/versions/1"
    manifest = client.get(f"{versions}/manifest", headers=admin_headers)
    (folder / "manifest.json").write_bytes(manifest.content)
    for entry in Manifest.from_json(manifest.json()).files:
        answer = client.get(f"{versions}/files/{entry.path}", headers=admin_headers)
        (folder / entry.path).write_bytes(answer.content)
    verify_directory(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == digits.checkpoint
    model = get_family("classifier").runtime().load_model(folder)
    assert torch.isfinite(model.head).all()
