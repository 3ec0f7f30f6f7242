import hashlib
from importlib.metadata import version

from app.worker import making


def test_the_software_is_named_with_its_versions_and_source():
    described = making.describe_making({"architecture": "analytic", "exactness": "all of it"})
    software = described["software"]
    assert described["checkpoint_declares"]["exactness"] == "all of it"
    assert software["expunge"] == version("expunge")
    assert software["libraries"]["torch"] == version("torch")
    assert len(software["source_sha256"]) == hashlib.sha256().digest_size * 2


def test_another_source_has_another_digest(tmp_path, monkeypatch):
    digests = set()
    for content in ("a = 1\n", "a = 2\n"):
        (tmp_path / "__init__.py").write_text(content)
        monkeypatch.setattr(making.models, "__file__", str(tmp_path / "__init__.py"))
        digests.add(making._source_digest())
    assert len(digests) == 2
