"""A private authority and certificates for edges and devices (`coinfer certs`)."""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from artefacts import ArtefactError, UsageError, atomic_write, read_bytes
from controller.link.secure import PEM_BYTES

AUTHORITY_DAYS = 3650
NAME = re.compile(
    r"(?=.{1,253}$)(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)"
    r"(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*"
)
"""A DNS name (RFC 1123), the first label of which may be a star."""
AUTHORITY, AUTHORITY_KEY = "ca.pem", "ca.key"
Role = Literal["edge", "device"]
MOST_NAME_CHARACTERS = 64
BACKDATED = datetime.timedelta(hours=1)
"""A Pi without a clock of its own may be a little behind."""


def make_authority(folder: Path, now: datetime.datetime) -> Path:
    """A new authority's `ca.pem` and `ca.key` in `folder`; refuses to replace one."""
    path = folder / AUTHORITY
    if path.exists() or (folder / AUTHORITY_KEY).exists():
        raise ArtefactError(
            path, found="an authority", expected="none (devices believe the one that is there)"
        )
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "coinfer authority")])
    usage = _usage(signs=True)
    made = (
        _builder(name, name, key.public_key(), now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write_pair(folder / AUTHORITY_KEY, key, path, made)
    return path


def make_certificate(
    folder: Path, role: Role, name: str, hosts: list[str], days: int, now: datetime.datetime
) -> Path:
    """`NAME.pem` and `NAME.key` in `folder`, signed by the authority there.

    `hosts`: addresses and names that devices call an edge by.
    """
    if not name or name != Path(name).name or name.startswith("."):
        raise UsageError(f"name: found '{name}', expected one that a file can have")
    if not name.isprintable() or len(name) > MOST_NAME_CHARACTERS:  # X.520: upper bounds
        raise UsageError(
            f"name: found '{name}', expected at most {MOST_NAME_CHARACTERS} characters, all of "
            "which can be printed"
        )
    if role == "edge" and not hosts:
        raise UsageError("hosts: found none, expected the addresses that devices call the edge by")
    authority, signer = _read_authority(folder)
    path = folder / f"{name}.pem"
    if path.exists():
        raise ArtefactError(path, found="a certificate", expected="none of that name")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    use = {"edge": ExtendedKeyUsageOID.SERVER_AUTH, "device": ExtendedKeyUsageOID.CLIENT_AUTH}
    builder = (
        _builder(subject, authority.subject, key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([use[role]]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
            critical=False,
        )
    )
    if hosts:
        names = x509.SubjectAlternativeName([_general_name(h) for h in hosts])
        builder = builder.add_extension(names, critical=False)
    _write_pair(folder / f"{name}.key", key, path, builder.sign(signer, hashes.SHA256()))
    return path


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs, key_cert_sign=signs, crl_sign=signs, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if not NAME.fullmatch(host) or host.rpartition(".")[2].isdigit():
            raise UsageError(
                f"--host: found {host[:80]!r}, expected an IP address or a DNS name"
            ) from None
        return x509.DNSName(host)


def _read_authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    path, expected = folder / AUTHORITY, "an authority (coinfer certs init)"
    try:
        authority = x509.load_pem_x509_certificate(read_bytes(path, PEM_BYTES, expected))
        path = folder / AUTHORITY_KEY
        key = _read_key(path, expected)
    except (ValueError, TypeError) as error:
        raise ArtefactError(path, found=str(error)[:100], expected="an authority's PEM") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ArtefactError(path, found=type(key).__name__, expected="an elliptic curve's key")
    return authority, key


def _read_key(path: Path, expected: str) -> object:
    raw = read_bytes(path, PEM_BYTES, expected)
    try:
        return serialization.load_pem_private_key(raw, password=None)
    except TypeError:  # it asks for a password
        raise ArtefactError(
            path, found="an encrypted key", expected="one without a passphrase"
        ) from None


def _write_pair(
    key_path: Path, key: ec.EllipticCurvePrivateKey, path: Path, made: x509.Certificate
) -> None:
    """Write a key and its certificate, both or neither."""
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_secret(key_path, text)
    try:
        with atomic_write(path, "wb") as stream:
            stream.write(made.public_bytes(serialization.Encoding.PEM))
    except BaseException:
        key_path.unlink()
        raise


def write_secret(path: Path, text: bytes) -> None:
    """A new file that its owner alone may read, never others, not even before a chmod."""
    made = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        made = True
        with open(handle, "wb") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(handle)
    except BaseException as error:
        if made:  # half a secret is none, and would stand in the way of the next
            path.unlink()
        if not isinstance(error, OSError):
            raise
        raise ArtefactError(
            path, found=str(error.strerror).lower(), expected="a file that can be made"
        ) from None
