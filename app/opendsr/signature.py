"""The certificate that vouches for answers and callbacks (OpenDSR, sections 4 and 8)."""

import base64
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtensionOID

from app.opendsr.errors import OpenDsrSettingsError
from app.settings import Settings

DOMAIN_HEADER = "X-OpenDSR-Processor-Domain"
SIGNATURE_HEADER = "X-OpenDSR-Signature"

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class ProcessorSigner:
    """Signs bodies with the key of the domain's certificate."""

    def __init__(self, domain: str, certificate: bytes, key: PrivateKey) -> None:
        self.domain = domain
        self.certificate = certificate
        self._key = key

    @classmethod
    def load(cls, settings: Settings) -> "ProcessorSigner | None":
        """Read certificate and key; None where the façade is off.

        Raises:
            OpenDsrSettingsError: A file is missing or unreadable, the two do not belong together, or the
                certificate is for another domain.
        """
        if settings.opendsr_domain is None:
            return None
        certificate_file, key_file = settings.opendsr_certificate_file, settings.opendsr_key_file
        if certificate_file is None or key_file is None:
            raise OpenDsrSettingsError(
                "EXPUNGE_OPENDSR_DOMAIN needs EXPUNGE_OPENDSR_CERTIFICATE_FILE and EXPUNGE_OPENDSR_KEY_FILE: "
                "every answer has to be signed."
            )
        pem = _read(certificate_file)
        try:
            certificate = x509.load_pem_x509_certificate(pem)
            key = serialization.load_pem_private_key(_read(key_file), password=None)
        except (ValueError, TypeError) as error:
            raise OpenDsrSettingsError(f"The OpenDSR certificate or key cannot be read: {error}") from None
        if not isinstance(key, PrivateKey):
            raise OpenDsrSettingsError("The OpenDSR key must be an RSA or elliptic-curve key.")
        if key.public_key() != certificate.public_key():
            raise OpenDsrSettingsError("The OpenDSR key is not that of the certificate.")
        if settings.opendsr_domain not in _domains(certificate):
            raise OpenDsrSettingsError(f"The OpenDSR certificate is not for {settings.opendsr_domain}.")
        return cls(settings.opendsr_domain, pem, key)

    def headers(self, body: bytes) -> dict[str, str]:
        """Return the headers that vouch for `body`."""
        return {
            DOMAIN_HEADER: self.domain,
            SIGNATURE_HEADER: base64.b64encode(self._sign(body)).decode(),
        }

    def _sign(self, body: bytes) -> bytes:
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(body, padding.PKCS1v15(), hashes.SHA256())
        return self._key.sign(body, ec.ECDSA(hashes.SHA256()))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise OpenDsrSettingsError(f"{path}: {error.strerror}.") from None


def _domains(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.DNSName) if isinstance(names, x509.SubjectAlternativeName) else []
