"""Webhook URL policy. No test queries a real name server."""

import socket
import time
from ipaddress import ip_network
from typing import Any

import pytest

from processing.notifications import url_policy
from processing.notifications.url_policy import AddressRefused, NoAnswer, NoSuchName

PUBLIC = "93.184.215.14"


def _rows(*found: str) -> list[Any]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in found]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the DNS answers by host name, which tests can change. Numeric hosts use the real resolver."""
    known: dict[str, Any] = {"hooks.example.net": [PUBLIC]}
    real = socket.getaddrinfo

    def ask(host: str, *args: Any, **options: Any) -> Any:
        if host in known:
            found = known[host]
            return found() if callable(found) else _rows(*found)
        return real(host, *args, **{**options, "flags": socket.AI_NUMERICHOST})

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    return known


def test_a_public_address_is_parsed(names: dict[str, Any]) -> None:
    target = url_policy.read("https://Hooks.Example.NET.:8443/a/b?c=d#fragment")
    assert (target.scheme, target.host, target.port) == ("https", "hooks.example.net", 8443)
    assert (target.path, target.authority) == ("/a/b?c=d", "hooks.example.net:8443")
    assert url_policy.resolve(target) == [PUBLIC]
    assert url_policy.read("https://hooks.example.net").authority == "hooks.example.net"
    assert url_policy.read("https://bücher.example/").host == "xn--bcher-kva.example"
    six = url_policy.read("https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]:4443/")
    assert six.authority == "[2606:2800:21f:cb07:6820:80da:af6b:8b2c]:4443"
    assert url_policy.resolve(six) == ["2606:2800:21f:cb07:6820:80da:af6b:8b2c"]


PRIVATE = [
    "127.0.0.1",
    "127.8.9.10",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.5.4",
    "192.168.1.1",
    "100.64.0.1",
    "100.100.100.200",
    "169.254.169.254",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2001:0:7f00:1::",
    "fe80::1",
    "fe80::1%1",
    "fec0::1",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "ff0e::1",
    "100::1",
    "2001:db8::1",
    "3fff::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_host_names_with_private_addresses_are_refused(address: str, names: dict[str, Any]) -> None:
    names["inside.example.net"] = [address]
    with pytest.raises(AddressRefused, match="private network"):
        url_policy.check("https://inside.example.net/")
    # One private address among several is enough.
    names["inside.example.net"] = [PUBLIC, address]
    with pytest.raises(AddressRefused, match="private network"):
        url_policy.check("https://inside.example.net/")


@pytest.mark.parametrize("address", [a for a in PRIVATE if "%" not in a])
def test_private_addresses_are_refused(address: str, names: dict[str, Any]) -> None:
    host = f"[{address}]" if ":" in address else address
    # Port 8443, because some of these are host names of this site.
    with pytest.raises(AddressRefused, match="private network"):
        url_policy.check(f"https://{host}:8443/")


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "017700000001",
        "0177.0.0.1",
        "127.1",
        "127.0.1",
        "0",
        "1.2.3.0x4",
    ],
)
def test_unusual_forms_of_addresses_are_refused(host: str, names: dict[str, Any]) -> None:
    with pytest.raises(AddressRefused, match="usual form"):
        url_policy.check(f"https://{host}/")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "starts with https"),
        ("hooks.example.net/a", "starts with https"),
        ("ftp://hooks.example.net/", "starts with https"),
        ("file:///etc/passwd", "starts with https"),
        ("https://", "starts with https"),
        ("https:///path", "starts with https"),
        ("http://hooks.example.net/", "start with https"),
        ("https://ada:secret@hooks.example.net/", "name and password"),
        ("https://ada@hooks.example.net/", "name and password"),
        ("https://hooks.example.net:22/", "port"),
        ("https://hooks.example.net:25/", "port"),
        ("https://hooks.example.net:0/", "port"),
        ("https://hooks.example.net:99999/", "not a valid web address"),
        ("https://hooks.example.net:a/", "not a valid web address"),
        ("https://[::1/", "not a valid web address"),
        ("https://[fe80::1%25eth0]/", "usual form"),
        ("https://a..b/", "not a valid web address"),
        ("https://" + "a" * 64 + ".example/", "not a valid web address"),
        ("https://hooks.example.net/é", "not a valid web address"),
        ("https://hooks.example.net/a b", "without spaces"),
        ("https://hooks.example.net\\@127.0.0.1/", "without spaces"),
        ("https://hooks.example.net/\r\nX: y", "without spaces"),
        ("https://hooks.example.net/\t", "without spaces"),
        ("https://hooks.example.net/" + "a" * 500, "500 characters"),
        ("https://localhost/", "belongs to this site"),
        ("https://127.0.0.1/", "belongs to this site"),
        ("https://[::1]/", "belongs to this site"),
        ("https://ipau.example.org/v1/jobs", "belongs to this site"),
        ("https://IPAU.example.org./v1/jobs", "belongs to this site"),
        ("https://ipau.example.org:8020/", "belongs to this site"),
        ("https://www.alias.example.org/", "belongs to this site"),
    ],
)
def test_invalid_addresses_are_refused(url: str, why: str, names: dict[str, Any], settings: Any) -> None:
    settings.BASE_URL = "https://ipau.example.org:8020"
    settings.ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]", ".alias.example.org", "*"]
    with pytest.raises(AddressRefused, match=why):
        url_policy.check(url)


def test_operators_can_allow_networks(names: dict[str, Any], settings: Any) -> None:
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("10.20.0.0/16"), ip_network("fd12::/16")]
    for address in ("10.20.3.4", "::ffff:10.20.3.4", "fd12::1"):
        names["inside.example.net"] = [address]
        assert url_policy.resolve(url_policy.read("https://inside.example.net/")) == [address]
    names["inside.example.net"] = ["10.21.0.1"]
    with pytest.raises(AddressRefused):
        url_policy.check("https://inside.example.net/")


def test_host_names_without_an_address(names: dict[str, Any]) -> None:
    def unknown() -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    def silent() -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    names.update({"nowhere.example.net": unknown, "silent.example.net": silent})
    with pytest.raises(AddressRefused, match=r"host name “nowhere\.example\.net” does not exist"):
        url_policy.check("https://nowhere.example.net/")
    with pytest.raises(NoSuchName):
        url_policy.resolve(url_policy.read("https://nowhere.example.net/"))
    # A lookup failure does not refuse a job, because the address is checked again for each delivery.
    url_policy.check("https://silent.example.net/")
    with pytest.raises(NoAnswer):
        url_policy.resolve(url_policy.read("https://silent.example.net/"))


def test_lookups_have_a_timeout(names: dict[str, Any]) -> None:
    def slow() -> Any:
        time.sleep(1.5)
        return _rows("127.0.0.1")

    names["slow.example.net"] = slow
    begun = time.monotonic()
    with pytest.raises(NoAnswer):
        url_policy.resolve(url_policy.read("https://slow.example.net/"), timeout=0.2)
    assert time.monotonic() - begun < 1.0
