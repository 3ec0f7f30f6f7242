import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from app.main import create_app
from app.opendsr.errors import OpenDsrSettingsError
from app.opendsr.signature import ProcessorSigner
from app.settings import Settings
from tests.app.opendsr.conftest import DOMAIN, make_certificate


def configured(certificate_file, key_file, domain=DOMAIN):
    return Settings(
        _env_file=None,
        opendsr_domain=domain,
        opendsr_certificate_file=certificate_file,
        opendsr_key_file=key_file,
    )


def test_an_rsa_certificate_signs_too(tmp_path):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    signer = ProcessorSigner.load(configured(*make_certificate(tmp_path, key=key)))
    headers = signer.headers(b"body")
    certificate = x509.load_pem_x509_certificate(signer.certificate)
    certificate.public_key().verify(
        base64.b64decode(headers["X-OpenDSR-Signature"]), b"body", padding.PKCS1v15(), hashes.SHA256()
    )


def test_the_facade_is_off_by_default():
    settings = Settings(_env_file=None)
    assert ProcessorSigner.load(settings) is None
    assert not any("opendsr" in path for path in create_app(settings).openapi()["paths"])


def test_a_domain_without_certificate_stops_the_service_at_once():
    with pytest.raises(OpenDsrSettingsError, match="CERTIFICATE_FILE"):
        create_app(Settings(_env_file=None, opendsr_domain=DOMAIN))


def test_a_certificate_for_another_domain_is_refused(tmp_path):
    with pytest.raises(OpenDsrSettingsError, match="not for"):
        ProcessorSigner.load(configured(*make_certificate(tmp_path, domain="other.example.org")))


def test_a_key_of_another_certificate_is_refused(tmp_path):
    (tmp_path / "other").mkdir()
    certificate_file, _ = make_certificate(tmp_path)
    _, key_file = make_certificate(tmp_path / "other")
    with pytest.raises(OpenDsrSettingsError, match="not that of the certificate"):
        ProcessorSigner.load(configured(certificate_file, key_file))


def test_a_key_that_cannot_sign_by_the_standard_is_refused(tmp_path):
    certificate_file, key_file = make_certificate(tmp_path)
    key_file.write_bytes(
        ed25519.Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    with pytest.raises(OpenDsrSettingsError, match="RSA or elliptic-curve"):
        ProcessorSigner.load(configured(certificate_file, key_file))


@pytest.mark.parametrize("damage", [b"", b"not PEM", None])
def test_a_damaged_or_missing_file_is_refused_in_a_sentence(tmp_path, damage):
    certificate_file, key_file = make_certificate(tmp_path)
    key_file.unlink() if damage is None else key_file.write_bytes(damage)
    with pytest.raises(OpenDsrSettingsError):
        ProcessorSigner.load(configured(certificate_file, key_file))
