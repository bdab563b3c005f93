"""One spelling for every address, and a caller that no stranger's header can forge."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from collector.core import addresses as addresses_module
from collector.core.addresses import (
    MAX_HOPS,
    Networks,
    client_address,
    is_public,
    match_prefix,
    normalise,
    parse_networks,
    truncate,
)
from collector.core.capi.identifiers import public_address, public_normalised

LOOPBACK = parse_networks(["127.0.0.1/32"])
PROXIES = parse_networks(["10.0.0.0/8", "2001:db8:ffff::/48"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("203.0.113.9", "203.0.113.9"),
        (" 203.0.113.9 ", "203.0.113.9"),
        ("203.0.113.9:5678", "203.0.113.9"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ('"[2001:DB8:0:0::1]:4711"', "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%25eth0]:80", "fe80::1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("[::ffff:cb00:7109]:80", "203.0.113.9"),
        ("2001:0DB8:0000::0001", "2001:db8::1"),
    ],
)
def test_every_spelling_gives_one_address(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "unknown",
        "_hidden",
        "1.2.3",
        "1.2.3.4.5",
        "01.2.3.4",
        "1.2.3.4:",
        "1.2.3.4:x",
        "1.2.3.4:99999",
        "[::1",
        "[::1]x",
        "[::1]:",
        "[1.2.3.4",
        "a:1",
        "1.2.3.4/24",
        "::1/64",
        "1\x00.2.3.4",
        "١.2.3.4",
        "1.2.3.4, 5.6.7.8",
        "9" * 400,
        "[" * 70,
        "0x7f.1.1.1",
        "2130706433",
        "localhost",
        "1.2.3.4%eth0",
    ],
)
def test_what_is_no_address_is_none(text: str) -> None:
    assert normalise(text) is None


@given(st.ip_addresses())
def test_the_canonical_form_is_a_fixed_point_and_survives_port_and_brackets(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    canonical = normalise(str(address))
    assert canonical is not None
    assert normalise(canonical) == canonical
    dressed = f"[{address}]:8080" if address.version == 6 else f"{address}:8080"
    assert normalise(dressed) == canonical


@given(st.text(max_size=100))
def test_no_text_raises(text: str) -> None:
    result = normalise(text)
    assert result is None or normalise(result) == result


def test_matching_compares_ipv4_whole_and_ipv6_by_its_64() -> None:
    assert match_prefix("203.0.113.9") == "203.0.113.9"
    assert match_prefix("2001:db8:1:2:aaaa::1") == match_prefix("2001:db8:1:2:bbbb::9") == "2001:db8:1:2::/64"
    assert match_prefix("2001:db8:1:2::1") != match_prefix("2001:db8:1:3::1")


def test_truncation_drops_the_last_part() -> None:
    assert truncate("203.0.113.9") == "203.0.113.0"
    assert truncate("2001:db8:1:2:3:4:5:6") == "2001:db8:1::"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("10.1.2.3", False),
        ("127.0.0.1", False),
        ("::1", False),
        ("169.254.1.1", False),
        ("fe80::1", False),
        ("224.0.0.1", False),
        ("100.64.0.1", False),
        ("100.128.0.1", True),
        ("203.0.113.9", False),
        ("2001:db8::1", False),
        ("64:ff9b::102:304", False),
        ("64:ff9b:1::1", False),
        ("192.88.99.1", False),
        ("0.0.0.0", False),
    ],
)
def test_public_is_what_a_visitor_can_have(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_a_bad_network_is_named() -> None:
    with pytest.raises(ValueError, match=r"'10\.0\.0\.1/8' is no network"):
        parse_networks(["10.0.0.0/8", "10.0.0.1/8"])


def test_a_mapped_network_means_its_ipv4_addresses() -> None:
    assert "10.1.2.3" in parse_networks(["::ffff:10.0.0.0/104"])


def test_without_trusted_proxies_no_header_is_believed() -> None:
    assert client_address("198.51.100.7", ["1.1.1.1"], Networks(), "2.2.2.2") == "198.51.100.7"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["203.0.113.9"], "203.0.113.9"),
        (["203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        (
            ["6.6.6.6, 203.0.113.9, 10.0.0.2"],
            "203.0.113.9",
        ),  # left of the first untrusted hop all may be forged
        (["6.6.6.6", "203.0.113.9"], "203.0.113.9"),  # lines are joined in order
        (["203.0.113.9:4711"], "203.0.113.9"),
        (["[2001:db8::1]:1"], "2001:db8::1"),
        (["2001:db8::1, 2001:db8:ffff::2"], "2001:db8::1"),
        (["::ffff:203.0.113.9"], "203.0.113.9"),
        (
            ["6.6.6.6, garbage"],
            "10.0.0.1",
        ),  # unparsable: the peer, never what stands left of it
        (["6.6.6.6, unknown, 10.0.0.2"], "10.0.0.1"),
        (["6.6.6.6,"], "10.0.0.1"),
        ([""], "10.0.0.1"),
        (["10.0.0.3, 10.0.0.2"], "10.0.0.1"),
        (
            [", ".join(["6.6.6.6"] + ["10.0.0.2"] * MAX_HOPS)],
            "10.0.0.1",
        ),  # beyond ten hops nothing is read
        ([", ".join(["203.0.113.9"] + ["10.0.0.2"] * (MAX_HOPS - 1))], "203.0.113.9"),
        (["x" * 100_000 + ", 203.0.113.9"], "203.0.113.9"),
    ],
)
def test_the_first_untrusted_hop_from_the_right_is_the_caller(lines: list[str], expected: str) -> None:
    assert client_address("10.0.0.1", lines, PROXIES) == expected


def test_a_trusted_peer_may_name_the_caller_by_x_real_ip_when_it_forwards_nothing() -> None:
    assert client_address("10.0.0.1", [], PROXIES, "203.0.113.9") == "203.0.113.9"
    assert client_address("10.0.0.1", ["203.0.113.9"], PROXIES, "6.6.6.6") == "203.0.113.9"
    assert client_address("10.0.0.1", [], PROXIES, "garbage") == "10.0.0.1"


def test_a_peer_that_is_no_address_stays() -> None:
    assert client_address("unix", ["6.6.6.6"], LOOPBACK) == "unix"


HOP = st.one_of(
    st.ip_addresses().map(str),
    st.sampled_from(
        [
            "10.0.0.2",
            "10.9.9.9",
            "2001:db8:ffff::1",
            "unknown",
            "",
            "6.6.6.6:1",
            "[::1]:9",
            "1.2.3",
        ]
    ),
)


def reference(peer: str, lines: list[str]) -> str:
    """The first untrusted hop from the right is the caller, written the slow way."""
    trusted = [
        ipaddress.ip_network("10.0.0.0/8"),
        ipaddress.ip_network("2001:db8:ffff::/48"),
    ]
    if not any(ipaddress.ip_address(peer) in network for network in trusted):
        return peer
    for number, hop in enumerate(reversed([hop for line in lines for hop in line.split(",")])):
        address = normalise(hop)
        if number >= 10 or address is None:
            return peer
        if not any(ipaddress.ip_address(address) in network for network in trusted):
            return address
    return peer


@given(
    st.sampled_from(["10.0.0.1", "198.51.100.7", "2001:db8:ffff::9"]),
    st.lists(st.lists(HOP, max_size=14), max_size=3),
)
def test_the_walk_agrees_with_the_slow_reference(peer: str, hops: list[list[str]]) -> None:
    lines = [", ".join(line) for line in hops]
    assert client_address(peer, lines, PROXIES) == reference(peer, lines)


@given(st.lists(HOP, max_size=12), st.lists(HOP, max_size=12))
def test_nothing_that_a_stranger_writes_changes_the_caller(forged: list[str], other: list[str]) -> None:
    """The proxy appends the true caller: whatever stood there before must not matter."""
    answers = {client_address("10.0.0.1", [", ".join([*hops, "203.0.113.9"])], PROXIES) for hops in (forged, other)}
    assert answers == {"203.0.113.9"}


def test_control_believing_the_leftmost_hop_would_be_spoofed() -> None:
    """The usual mistake: this is what the tests above must not be satisfied by."""
    lines = ["6.6.6.6, 203.0.113.9"]
    assert lines[0].split(",")[0] != client_address("10.0.0.1", lines, PROXIES)


@given(st.ip_addresses().map(str))
@example("8.8.8.8")
@example("10.0.0.1")
@example("192.0.2.1")
@example("0.0.0.0")
@example("::ffff:10.0.0.1")
def test_the_short_way_to_public_is_the_long_one(text: str) -> None:
    normal = normalise(text)
    assert normal is not None
    assert public_normalised(normal) == public_address(normal)


def as_the_standard_library_has_it(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


EDGES = (
    *("0.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.0.0.0/16", "198.18.0.0/14", "224.0.0.0/3"),
    *("::/64", "::ffff:0:0/95", "64:ff9b::/64", "2001::/22", "2001:db8::/31", "2002::/15", "3fff::/19", "fc00::/6"),
)
addresses = st.one_of(
    st.ip_addresses(), *(st.ip_addresses(network=ipaddress.ip_network(network, strict=False)) for network in EDGES)
)


@given(addresses)
@example(ipaddress.ip_address("::1.2.3.4"))  # C libraries write it so; stored names are of ::102:304
@example(ipaddress.ip_address("::ffff:0:1.2.3.4"))
@example(ipaddress.ip_address("1:0:0:2::"))
@settings(max_examples=1_000)
def test_an_address_has_the_text_that_stored_names_were_made_of(address):
    for text in (str(address), address.exploded, address.exploded.upper()):
        known = as_the_standard_library_has_it(text)
        assert normalise(text) == str(known)
    text = str(known)
    if known.version == 4:
        assert (match_prefix(text), truncate(text)) == (text, text.rpartition(".")[0] + ".0")
    else:
        assert match_prefix(text) == str(ipaddress.ip_network((text, 64), strict=False))
        assert truncate(text) == str(ipaddress.ip_network((text, 48), strict=False).network_address)


@given(st.text("0123456789abcdefABCDEF:.%/ \0\u0661x-", max_size=24))
@settings(max_examples=1_000)
def test_what_is_no_address_to_the_standard_library_is_none(text):
    host = text.strip()
    if not any(one in host for one in '%[".') and host.count(":") != 1:
        known = as_the_standard_library_has_it(host)
        assert normalise(text) == (None if known is None else str(known))


@given(addresses, st.sampled_from(["", *addresses_module._SPECIAL_6, "2000::/16", "3ffe::/16", "4000::/16"]))
@settings(max_examples=1_000)
def test_who_is_public_by_the_first_digits_is_public_by_the_registries(address, network):
    if network:
        address = ipaddress.ip_network(network)[int(address) % ipaddress.ip_network(network).num_addresses]
    text = normalise(str(address))
    assert is_public(text) == addresses_module._is_public(text)


@given(addresses)
@settings(max_examples=1_000)
def test_nobody_whom_the_standard_library_holds_private_is_public(address):
    text = normalise(str(address))
    known = ipaddress.ip_address(text)
    if is_public(text):
        assert known.is_global
        assert not known.is_multicast
    networks = ["10.0.0.0/8", "192.0.2.0/25", "2001:db8::/33", "2a02:1::7/128"]
    inside = any(known in ipaddress.ip_network(network) for network in networks)
    assert (text in parse_networks(networks)) == inside
