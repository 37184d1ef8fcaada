"""Functions give what the sites' own scripts give."""

import base64
import traceback

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from gmssl import sm2

from apps.tokens.connectors import functions

KEY = rsa.generate_private_key(public_exponent=65537, key_size=1024)
NUMBERS = KEY.public_key().public_numbers()
PEM = (
    KEY.public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    .decode()
)
DER = base64.b64encode(
    KEY.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
).decode()
# The key pair of GB/T 32918.5, annex A.
SM2_PRIVATE = "3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8"
SM2_PUBLIC = (
    "09f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020"
    "ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13"
)


@pytest.mark.parametrize(
    ("name", "argument", "expected"),
    [
        ("base64", "密码", "5a+G56CB"),
        ("base64", {"text": "密码", "encoding": "gbk"}, "w9zC6w=="),
        ("base64url", "?>?>", "Pz4_Pg"),
        ("unbase64", "Pz4_Pg", "?>?>"),
        ("url", "a b&密", "a%20b%26%E5%AF%86"),
        ("hex", "AZ", "415a"),
        ("unhex", "415a", "AZ"),
        ("md5", "abc", "900150983cd24fb0d6963f7d28e17f72"),
        ("sha1", "abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        ("sha256", {"text": "abc", "output": "base64"},
         "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="),
        # RFC 2202 and RFC 4231, test case 2
        ("hmac_md5", {"key": "Jefe", "text": "what do ya want for nothing?"},
         "750c783e6ab0b503eaa86e310a5db738"),
        ("hmac_sha1", {"key": "4a656665", "key_format": "hex",
                       "text": "what do ya want for nothing?"},
         "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
        ("hmac_sha256", {"key": "Jefe", "text": "what do ya want for nothing?"},
         "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        # GB/T 32905, annex A
        ("sm3", "abc", "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"),
        ("lower", "AbC", "abc"),
        ("upper", "AbC", "ABC"),
        ("trim", " a ", "a"),
        ("reverse", "abc", "cba"),
        ("concat", ["a", "b"], "ab"),
        ("join", {"items": ["a", "b"], "separator": "&"}, "a&b"),
        ("json", {"a": ["密", 1, True]}, '{"a":["密",1,true]}'),
    ],
)  # fmt: skip
def test_known_answers(name, argument, expected):
    assert functions.call(name, argument) == expected


def test_sha512_and_its_hmac_are_there():
    assert functions.call("sha512", "abc").startswith("ddaf35a193617aba")
    made = functions.call("hmac_sha512", {"key": "Jefe", "text": "what do ya want for nothing?"})
    assert made.startswith("164b7a7bfcf819e2e395fbe73b56e0a3")


@pytest.mark.parametrize(
    "key",
    [{"key": PEM}, {"key": DER}, {"modulus": f"{NUMBERS.n:x}", "exponent": "010001"}],
    ids=["pem", "der", "modulus"],
)
def test_rsa_reads_keys_as_login_pages_give_them(key):
    made = functions.call("rsa", {"text": "密码", **key})
    plain = KEY.decrypt(base64.b64decode(made), padding.PKCS1v15())
    assert plain.decode() == "密码"


@pytest.mark.parametrize(("name", "algorithm"), [("sha1", hashes.SHA1), ("sha256", hashes.SHA256)])
def test_rsa_oaep_in_hex(name, algorithm):
    argument = {"text": "pw", "key": PEM, "padding": "oaep", "hash": name, "output": "hex"}
    oaep = padding.OAEP(padding.MGF1(algorithm()), algorithm(), None)
    assert KEY.decrypt(bytes.fromhex(functions.call("rsa", argument)), oaep) == b"pw"


def test_rsa_without_padding_is_the_bare_power():
    made = functions.call("rsa", {"text": "pw", "key": PEM, "padding": "none", "output": "hex"})
    power = pow(int(made, 16), KEY.private_numbers().d, NUMBERS.n)
    assert power.to_bytes(2) == b"pw"
    assert len(made) == 256


@pytest.mark.parametrize(("order", "mode"), [("C1C3C2", 1), ("C1C2C3", 0)])
@pytest.mark.parametrize("public", [SM2_PUBLIC, "04" + SM2_PUBLIC.upper()])
def test_sm2_is_read_by_another_implementation(order, mode, public):
    made = functions.call("sm2", {"text": "密码 42", "key": public, "order": order})
    reader = sm2.CryptSM2(private_key=SM2_PRIVATE, public_key=SM2_PUBLIC, mode=mode)
    assert reader.decrypt(bytes.fromhex(made)).decode() == "密码 42"


def test_sm2_takes_a_key_whose_point_begins_with_04():
    curve = sm2.CryptSM2(private_key="", public_key="")
    generator = sm2.default_ecc_table["g"]
    private = next(k for k in range(1, 5000) if curve._kg(k, generator).startswith("04"))
    made = functions.call("sm2", {"text": "pw", "key": curve._kg(private, generator)})
    reader = sm2.CryptSM2(private_key=f"{private:064x}", public_key=SM2_PUBLIC, mode=1)
    assert reader.decrypt(bytes.fromhex(made)) == b"pw"


def test_times_and_random_texts(monkeypatch):
    monkeypatch.setattr(functions.time, "time", lambda: 1_700_000_000.9)
    monkeypatch.setattr(functions.time, "time_ns", lambda: 1_700_000_000_987_654_321)
    assert functions.call("timestamp_s", None) == "1700000000"
    assert functions.call("timestamp_ms", None) == "1700000000987"
    assert len(functions.call("nonce", "24")) == 24
    assert functions.call("nonce", None) != functions.call("nonce", None)
    assert len(functions.call("uuid", None)) == 36


SECRET = "s3cret"


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("unbase64", SECRET + "!"),
        ("unhex", SECRET),
        ("base64", {"text": SECRET + "密", "encoding": "ascii"}),
        ("md5", {"text": SECRET, "encoding": "nowhere"}),
        ("md5", {"text": SECRET, "output": "octal"}),
        ("md5", {"text": SECRET, "salt": "x"}),
        ("hmac_md5", SECRET),
        ("hmac_md5", {"text": SECRET, "key": "a", "key_format": "x"}),
        ("rsa", {"text": SECRET}),
        ("rsa", {"text": SECRET, "key": SECRET}),
        ("rsa", {"text": SECRET * 100, "key": PEM}),
        ("rsa", {"text": SECRET * 100, "key": PEM, "padding": "none"}),
        ("rsa", {"text": SECRET, "key": PEM, "padding": "oaep", "hash": "md4"}),
        ("sm2", {"text": SECRET, "key": "04" * 64}),
        ("sm2", {"text": SECRET, "key": "zz"}),
        ("sm2", {"text": SECRET, "key": SM2_PUBLIC, "order": "C3"}),
        ("nonce", "0"),
        ("uuid", "x"),
        ("join", {"items": SECRET}),
    ],
)
def test_a_bad_argument_is_said_without_repeating_it(name, argument):
    with pytest.raises(ValueError, match=r".") as caught:
        functions.call(name, argument)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_no_parameter_has_the_name_of_a_function():
    """`{f: {g: x}}` is then a call of g inside f, never an argument named g."""
    for name in functions.FUNCTIONS:
        parameters = functions.inspect.signature(functions.FUNCTIONS[name]).parameters
        assert not parameters.keys() & functions.FUNCTIONS.keys()
