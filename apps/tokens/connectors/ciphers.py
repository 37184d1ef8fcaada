"""RSA and SM2 as login pages use them to wrap a password before it is sent."""

import base64
import binascii
import secrets
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding as paddings
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key
from gmssl.sm2 import CryptSM2, default_ecc_table

SM2_HEX: Final = 64
_P, _A, _B, _N = (int(default_ecc_table[name], 16) for name in ("p", "a", "b", "n"))


def rsa(
    text: str,
    *,
    key: str = "",
    modulus: str = "",
    exponent: str = "10001",
    padding: str = "pkcs1v15",
    hash: str = "sha1",
    output: str = "base64",
    encoding: str = "utf-8",
) -> str:
    """Return `text` encrypted with a public key, in base64 or hex.

    `key` is PEM or base64 of DER; or `modulus` and `exponent` in hex, as login pages give them.
    `padding`: `pkcs1v15`, `oaep` (with `hash` sha1 or sha256), or `none` (the bare power, as some
    old scripts compute it). Raises ValueError.
    """
    public = _rsa_key(key, modulus, exponent)
    plain = text.encode(encoding)
    if padding == "none":
        numbers, size = public.public_numbers(), public.key_size // 8
        if len(plain) >= size:
            raise ValueError("the text is too long for the key")
        power = pow(int.from_bytes(plain), numbers.e, numbers.n)
        return written(power.to_bytes(size), output)
    try:
        return written(public.encrypt(plain, _padding(padding, hash)), output)
    except ValueError as error:
        raise ValueError("the text is too long for the key") from error


def sm2(
    text: str, *, key: str, order: str = "C1C3C2", output: str = "hex", encoding: str = "utf-8"
) -> str:
    """Return `text` encrypted with an SM2 public key (GB/T 32918.4), in hex or base64.

    `key` is the point in hex, with or without the leading 04. The answer has no leading 04; a
    site that wants it gets `04${…}`. Raises ValueError.

    The curve is gmssl's; its own `encrypt` draws k from `random` and mangles keys that begin with
    04, so the rest of the scheme is here.
    """
    if order not in ("C1C3C2", "C1C2C3"):
        raise ValueError("order must be C1C3C2 or C1C2C3")
    point, plain = _sm2_point(key), text.encode(encoding)
    curve = CryptSM2(private_key="", public_key="")
    while True:
        k = secrets.randbelow(_N - 1) + 1
        c1 = curve._kg(k, default_ecc_table["g"])
        shared = bytes.fromhex(curve._kg(k, point))
        mask = _sm2_mask(shared, len(plain))
        if any(mask) or not plain:  # the standard draws again if the mask is all zero
            break
    c2 = bytes(one ^ other for one, other in zip(plain, mask, strict=True))
    c3 = sm3_digest(shared[:32] + plain + shared[32:])
    tail = c3 + c2 if order == "C1C3C2" else c2 + c3
    return written(bytes.fromhex(c1) + tail, output)


def sm3_digest(data: bytes) -> bytes:
    """Return the SM3 hash (GB/T 32905) of `data`."""
    hashed = hashes.Hash(hashes.SM3())
    hashed.update(data)
    return hashed.finalize()


def written(data: bytes, output: str) -> str:
    """Return bytes as `hex`, `HEX` or `base64`. Raises ValueError for another word."""
    if output == "base64":
        return base64.b64encode(data).decode()
    if output in ("hex", "HEX"):
        return data.hex() if output == "hex" else data.hex().upper()
    raise ValueError("output must be hex, HEX or base64")


def from_base64(text: str) -> bytes:
    """Read base64 of either alphabet, padded or not. Raises ValueError."""
    plain = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except binascii.Error:
        raise ValueError("the text is not base64") from None


def from_hex(text: str) -> bytes:
    """Read hex digits. Raises ValueError."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ValueError("the text is not hex") from None


def _rsa_key(key: str, modulus: str, exponent: str) -> RSAPublicKey:
    if bool(key) == bool(modulus):
        raise ValueError("give either key, or modulus and exponent")
    try:
        if modulus:
            return RSAPublicNumbers(int(exponent, 16), int(modulus, 16)).public_key()
        if "-----" in key:
            public = load_pem_public_key(key.encode())
        else:
            public = load_der_public_key(from_base64(key))
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("the key cannot be read") from None
    if not isinstance(public, RSAPublicKey):
        raise ValueError("the key is not an RSA key")  # noqa: TRY004 - the callers know ValueError
    return public


def _padding(name: str, digest: str) -> paddings.AsymmetricPadding:
    if name == "pkcs1v15":
        return paddings.PKCS1v15()
    # OAEP with SHA-1 is what WebCrypto's and Java's older defaults expect.
    algorithms = {"sha1": hashes.SHA1, "sha256": hashes.SHA256}
    if name != "oaep" or digest not in algorithms:
        raise ValueError("padding must be pkcs1v15, oaep or none, and hash sha1 or sha256")
    algorithm = algorithms[digest]
    return paddings.OAEP(paddings.MGF1(algorithm()), algorithm(), None)


def _sm2_point(key: str) -> str:
    bare = key.strip().lower()
    if len(bare) == 2 * SM2_HEX + 2 and bare.startswith("04"):
        bare = bare[2:]
    if len(bare) != 2 * SM2_HEX:
        raise ValueError("the key must be a point of 128 hex digits")
    point = from_hex(bare)
    x, y = int.from_bytes(point[:32]), int.from_bytes(point[32:])
    if (y * y - (x**3 + _A * x + _B)) % _P:
        raise ValueError("the key is not a point of the curve")
    return bare


def _sm2_mask(shared: bytes, length: int) -> bytes:
    blocks = range(1, -(-length // 32) + 1)
    return b"".join(sm3_digest(shared + block.to_bytes(4)) for block in blocks)[:length]
