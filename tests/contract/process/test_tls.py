"""Certificates and keys as operators have them, right and wrong."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as pem

from contract.process.tls import (
    CertificateExpiredError,
    TlsError,
    TlsFiles,
    _handshake,
    client_context,
    present,
    server_context,
)
from tests.certificates import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def good(authority: Authority) -> TlsFiles:
    return authority.issue("good", "llm.example.com", "127.0.0.1", to_day=30)


def test_names_and_end_are_those_of_the_certificate(good: TlsFiles) -> None:
    shown = present(good)
    assert shown.names == ("llm.example.com", "127.0.0.1")
    assert abs(shown.expires_unix_s - time.time() - 30 * 86_400) < 300
    assert present(good._replace(minimum_version="1.3")) == shown


def _cut(path: Path, kind: str) -> Path:
    new = path.with_name(f"cut-{path.name}")
    new.write_text(f"{path.read_text()[:200]}\n-----END {kind}-----\n")
    return new


def _encrypted(path: Path, form: str) -> Path:
    key = pem.load_pem_private_key(path.read_bytes(), None)
    new = path.with_name(f"{form}.key")
    new.write_bytes(
        key.private_bytes(
            pem.Encoding.PEM,
            getattr(pem.PrivateFormat, form),
            pem.BestAvailableEncryption(b"secret"),
        )
    )
    return new


#: Files, made of the good ones; and parts of the message and of the next step.
FAULTS: dict[str, tuple[Callable[[TlsFiles, Authority], TlsFiles], str, str]] = {
    "no file": (
        lambda good, _: good._replace(certificate=Path("/no/such.pem")),
        "/no/such.pem does not exist",
        "relative to the project",
    ),
    "a directory": (
        lambda good, _: good._replace(key=good.key.parent),
        "Is a directory",
        "can be read",
    ),
    "the two exchanged": (
        lambda good, _: TlsFiles(good.key, good.certificate),
        "good.key has no certificate in it",
        "-----BEGIN CERTIFICATE-----",
    ),
    "no key": (
        lambda good, _: good._replace(key=good.certificate),
        "good.pem has no private key in it",
        "-----BEGIN PRIVATE KEY-----",
    ),
    "another's key": (
        lambda good, authority: good._replace(key=authority.issue("other").key),
        "other.key is not that of the first certificate in",
        "the server's own certificate first",
    ),
    "a key with a passphrase": (
        lambda good, _: good._replace(key=_encrypted(good.key, "PKCS8")),
        "PKCS8.key is encrypted with a passphrase",
        "`openssl pkey -in ",
    ),
    "a key with a passphrase, in the older form": (
        lambda good, _: good._replace(key=_encrypted(good.key, "TraditionalOpenSSL")),
        "TraditionalOpenSSL.key is encrypted with a passphrase",
        "`openssl pkey -in ",
    ),
    "a certificate that was cut": (
        lambda good, _: good._replace(certificate=_cut(good.certificate, "CERTIFICATE")),
        "cannot be read",
        "which of them is damaged",
    ),
    "a key that was cut": (
        lambda good, _: good._replace(key=_cut(good.key, "PRIVATE KEY")),
        "cannot be read",
        "which of them is damaged",
    ),
    "not yet valid": (
        lambda _, authority: authority.issue("early", from_day=1),
        "not yet valid",
        "make a new one",
    ),
    "no authorities": (
        lambda good, _: good._replace(client_ca=good.key),
        "good.key has no certificate in it",
        "-----BEGIN CERTIFICATE-----",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_names_the_file_and_the_next_step(
    good: TlsFiles, authority: Authority, fault: str
) -> None:
    make, message, fix = FAULTS[fault]
    with pytest.raises(TlsError) as caught:
        present(make(good, authority))
    assert message in str(caught.value)
    assert fix in caught.value.fix
    assert not isinstance(caught.value, CertificateExpiredError)


def test_a_key_that_may_not_be_read_names_the_user(
    good: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> str:
        # Root, as which tests run in containers, may read everything.
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(TlsError, match="cannot be read") as caught:
        present(good)
    assert f"uid {os.getuid()}" in caught.value.fix


def test_an_old_certificate_is_told_from_a_broken_one(authority: Authority) -> None:
    with pytest.raises(CertificateExpiredError, match=r"old\.pem: certificate has expired"):
        present(authority.issue("old", to_day=-3))


def test_a_command_trusts_the_gateways_certificate_and_no_other_of_its_authority(
    authority: Authority, good: TlsFiles
) -> None:
    other = authority.issue("impostor", "llm.example.com", "127.0.0.1")
    trusts = client_context(good.certificate)
    assert _handshake(server_context(good), trusts)["subjectAltName"]
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(server_context(other), trusts)


def test_the_oldest_tls_is_as_configured(authority: Authority, good: TlsFiles) -> None:
    client = authority.client()
    client.check_hostname = False
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert _handshake(server_context(good), client)
    with pytest.raises(ssl.SSLError, match="unsupported protocol"):
        _handshake(server_context(good._replace(minimum_version="1.3")), client)
