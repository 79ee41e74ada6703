"""The certificate pair that the servers show."""

import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from caraway.config.model import Tls
from caraway.errors import ConfigError
from caraway.model import Secret
from caraway.servers.identity import read_identity, ssl_context


def make_pair() -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=36500))
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return certificate, private.decode()


def test_no_tls_no_identity(tmp_path):
    assert read_identity(None, tmp_path, Secret) is None
    assert read_identity(Tls(enabled=False), tmp_path, Secret) is None


def test_files_beside_the_pod_and_text_with_secrets(tmp_path):
    certificate, key = make_pair()
    (tmp_path / "cert.pem").write_text(certificate)
    tls = Tls(enabled=True, certificate_file=tmp_path / "cert.pem", key="${env:KEY}")
    identity = read_identity(tls, tmp_path, lambda text: Secret(key) if text == "${env:KEY}" else Secret(text))
    assert isinstance(ssl_context(identity), ssl.SSLContext)
    assert key not in repr(identity)


@pytest.mark.parametrize(
    ("tls", "message"),
    [
        (Tls(enabled=True, key="x"), "neither certificate nor certificate_file"),
        (Tls(enabled=True, certificate="x", key="y"), "can't be used"),
        (Tls(enabled=True, certificate_file="nowhere.pem", key="y"), "nowhere.pem can't be read: No such file"),
    ],
)
def test_a_pair_that_cannot_work(tls, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        read_identity(tls, tmp_path, Secret)


def test_a_key_of_another_certificate(tmp_path):
    certificate, _ = make_pair()
    _, key = make_pair()
    with pytest.raises(ConfigError, match="can't be used"):
        read_identity(Tls(enabled=True, certificate=certificate, key=key), tmp_path, Secret)
