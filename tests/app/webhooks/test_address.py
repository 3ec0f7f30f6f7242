import ipaddress
import socket

import pytest

from app.webhooks.address import AddressRefusedError, check_url, resolve

LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]


@pytest.fixture
def names(monkeypatch):
    """A resolver of this test's own, so that no test asks the network."""
    table = {}

    def getaddrinfo(host, port, *_, **__):
        if host not in table:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in table[host]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return table


def test_a_public_https_address_may_be_called(names):
    names["hooks.example.org"] = ["93.184.215.14"]
    check_url("https://hooks.example.org/expunge?team=1", [])


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.168.1.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:a00:1::1",
        "2001:0:4136:e378:8000:63bf:f5ff:fffe",
    ],
)
def test_an_address_that_is_not_public_is_refused(names, address):
    names["inner.example.org"] = [address]
    with pytest.raises(AddressRefusedError, match="not public"):
        check_url("https://inner.example.org/", [])


def test_one_private_address_among_public_ones_is_enough_to_refuse(names):
    names["both.example.org"] = ["93.184.215.14", "10.0.0.1"]
    with pytest.raises(AddressRefusedError):
        resolve("both.example.org", 443, [])


def test_an_allowed_network_may_be_called_even_without_tls(names):
    names["hooks.internal"] = ["127.0.0.1"]
    check_url("http://hooks.internal:8080/", LOOPBACK)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("ftp://hooks.example.org/", "https://"),
        ("http://hooks.example.org/", "https://"),
        ("https:///nothing", "names a host"),
        ("hooks.example.org", "https://"),
        ("https://user:secret@hooks.example.org/", "credentials"),
        ("https://hooks.example.org/#top", "fragment"),
        ("https://hooks.example.org:99999/", "malformed"),
        ("https://[::1/", "malformed"),
        ("https://nowhere.example.org/", "cannot be resolved"),
        ("https://hooks.example.org/\n", "printable"),
        ("https://hooks.example.org/ö", "printable"),
        ("https://hooks.example.org/" + "x" * 1000, "1000"),
    ],
)
def test_a_url_that_cannot_be_called_is_refused_with_a_reason(names, url, sentence):
    names["hooks.example.org"] = ["93.184.215.14"]
    with pytest.raises(AddressRefusedError, match=sentence):
        check_url(url, [])
