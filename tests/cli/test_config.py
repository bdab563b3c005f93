"""The configuration: precedence, every fault at once with its line, secrets in files, embedded defaults."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from collector.config import Config, InsightsConfig, StoreConfig
from collector.config_loader import checks, for_role, load, load_settings
from collector.config_loader.changes import changed
from collector.config_loader.show import rows
from collector.config_loader.toml_lines import line_numbers
from collector.edge import auth
from collector.errors import ConfigError, user, why

SMALLEST = """\
[edge]
listen = "127.0.0.1:8080"
trusted_proxies = ["127.0.0.1/32"]

[console]
listen = "127.0.0.1:8081"

[storage]
data_dir = "./collector-data"

[meta]
mode = "live"
graph_url = "https://graph.facebook.com"    # a test points this at its own simulator
api_version = "v26.0"

[[store]]
id = "store_abc123"
name = "My store"
domains = ["mystore.com"]
currency = "USD"
country = "US"

[[store.pixel]]
id = "123456789012345"
access_token_file = "meta.token"
"""
HASH = "scrypt$17$8$1$UEFTU1dPUkQ=$UEFTU1dPUkQ="
STORE = '[[store]]\nid = "s1"\n'


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str, **secrets: str) -> str:
        (tmp_path / "collector.toml").write_text(text)
        (tmp_path / "collector.toml").chmod(0o600)
        for name, value in secrets.items():
            with open(os.open(tmp_path / f"{name}.token", os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
                file.write(value)
        return str(tmp_path / "collector.toml")

    return write


def faults_of(path: str | None, env: dict[str, str] | None = None, **kw) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, env or {}, **kw)
    return [fault.replace(str(path), "F") for fault in caught.value.faults]


def test_the_smallest_live_configuration_loads_with_its_token(write):
    config = load(write(SMALLEST, meta="EAAtoken\n"), {})
    assert config.meta.mode == "live"
    assert config.store[0].pixel[0].access_token == "EAAtoken"
    assert config.edge.trusted_proxies == ["127.0.0.1/32"]


def test_without_a_file_the_demo_store_runs_in_dry_run():
    config = load(None, {})
    assert [store.id for store in config.store] == ["store_demo"]
    assert config.meta.mode == "dry_run"
    assert config.storage.data_dir == "./collector-data"
    assert config.store[0].pixel, "without a pixel nothing would be recorded as what would have been sent"


def test_flag_wins_over_environment_over_file_over_default(write):
    path = write('[storage]\ndata_dir = "file"\n[edge]\nworkers = 2\n' + STORE)
    assert load(path, {}).storage.data_dir == os.path.join(os.path.dirname(path), "file")
    env = {"COLLECTOR_STORAGE__DATA_DIR": "env", "COLLECTOR_EDGE__WORKERS": "3"}
    assert load(path, env).storage.data_dir == "env"
    assert load(path, env).edge.workers == 3
    assert load(path, env, {"storage.data_dir": "flag"}).storage.data_dir == "flag"
    assert load(path, {}).edge.cookie_days == 90


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("COLLECTOR_EDGE__TRUSTED_PROXIES", "10.0.0.0/8, 127.0.0.1/32", ["10.0.0.0/8", "127.0.0.1/32"]),
        ("COLLECTOR_EDGE__TRUSTED_PROXIES", '["10.0.0.0/8"]', ["10.0.0.0/8"]),
        ("COLLECTOR_PRIVACY__LDU", "true", True),
        ("COLLECTOR_META__BATCH_WAIT_SECONDS__PURCHASE", "0.5", 0.5),
        ("COLLECTOR_META__TIMEOUT_SECONDS", "3", 3.0),
    ],
)
def test_the_environment_gives_every_type(name, value, expected):
    found: object = load(None, {name: value})
    for part in name.removeprefix("COLLECTOR_").lower().split("__"):
        found = getattr(found, part)
    assert found == expected


def test_the_environment_can_add_a_store():
    env = {"COLLECTOR_STORE__1__ID": "second", "COLLECTOR_STORE__1__CURRENCY": "eur"}
    config = load(None, env)
    assert [(store.id, store.currency) for store in config.store] == [("store_demo", ""), ("second", "EUR")]
    assert "COLLECTOR_STORE__7__ID" in faults_of(None, {"COLLECTOR_STORE__7__ID": "x"})[0]


@pytest.mark.parametrize("index", ["²", "٣", "9" * 5000])
def test_an_index_that_is_no_number_is_a_fault(index):
    assert f"COLLECTOR_STORE__{index}__ID" in faults_of(None, {f"COLLECTOR_STORE__{index}__ID": "x"})[0]


@pytest.mark.parametrize("key", ["STORAGE__DATA_DIR", "PRIVACY__PEPPER_FILE", "BACKUP__DIR"])
def test_a_path_that_no_file_system_takes_is_a_fault(key):
    for path in ("/srv/" + "x" * 256, "ü" * 128, "/x" * 2001):
        assert "too long" in faults_of(None, {f"COLLECTOR_{key}": path})[0]
    assert load(None, {"COLLECTOR_STORAGE__DATA_DIR": "/srv/" + "x" * 255})


def test_an_unknown_key_names_the_nearest_known_one_with_its_line(write):
    faults = faults_of(write("[edge]\n\nlistn = 'x'\n" + STORE + "curency = 'USD'\n[stroage]\ndata_dir='x'\n"))
    assert faults == [
        "F:7: [stroage]: unknown key; did you mean 'storage'?",
        "F:3: [edge] listn: unknown key; did you mean 'listen'?",
        "F:6: [store] curency: unknown key; did you mean 'currency'?",
    ]


def test_an_unknown_variable_of_a_section_is_a_fault_too():
    (fault,) = faults_of(None, {"COLLECTOR_EDGE__LISTN": "x"})
    assert fault == "COLLECTOR_EDGE__LISTN: [edge] listn: unknown key; did you mean 'listen'?"


def test_all_faults_are_told_at_once(write):
    text = (
        '[edge]\nlisten = "nowhere"\nworkers = "two"\ntrusted_proxies = ["300.1.1.1"]\n[matching]\nthreshold = 90\n'
        '[meta]\nmode = "dry_run"\ngraph_url = "http://graph.example"\n'
        '[[store]]\nid = "a b"\ncurrency = "XXQ"\ncountry = "ZZ"\ndomains = ["https://shop.example/"]\n'
        '[[store.pixel]]\nid = "12x"\ntest_event_code = "TEST1"\n[[store]]\nname = "no id"\n'
    )
    faults = faults_of(write(text))
    expected = [
        "F:2: [edge] listen: expected host:port",
        "F:3: [edge] workers: expected `int`, got `str`",
        "F:4: [edge] trusted_proxies: '300.1.1.1' is no address",
        "F:6: [matching] threshold: must not be larger than strong",
        "F:9: [meta] graph_url: expected an https address",
        "F:11: [store] id: expected 1 to 64",
        "F:12: [store] currency: 'XXQ'",
        "F:13: [store] country: 'ZZ'",
        "F:14: [store] domains: 'https://shop.example/' is no domain",
        "F:16: [store.pixel] id: expected Meta's pixel",
        "F:17: [store.pixel] test_event_code: needs test_event_code_expires",
        "F:18: [store]: 'id' is missing",
    ]
    for sentence in expected:
        assert any(fault.startswith(sentence) for fault in faults), (sentence, faults)
    assert len(faults) == len(expected), faults


@pytest.mark.parametrize(
    ("section", "line", "message"),
    [
        ("console", 'listen = "0.0.0.0:8081"', "without a password_hash"),
        ("console", 'listen = "127.0.0.1:8080"', "already taken"),
        ("console", 'password_hash = "hunter2"', "collector config hash-password"),
        ("meta", 'api_version = "26"', "v26.0"),
        ("meta", "batch_max = 1001", "<= 1000"),
        ("edge", 'snippet_path = "/v1/track/click"', "belongs to the API"),
        ("edge", 'pixel_path = "/c.js"', "already snippet_path"),
        ("edge", "max_body_bytes = 10", ">= 1024"),
        ("privacy", 'store_ip = "some"', "expected 'full', 'truncated', 'none'"),
        ("alerts", 'webhook_url = "http://hooks.example"', "https"),
        ("insights", 'ad_account = "123"', "expected act_ and digits, for example act_123; Ads Manager shows it"),
        ("insights", 'ad_account = "act_12x"', "for example act_1234567890"),
        ("insights", 'ad_account = "act_"', "for example act_1234567890"),
        ("insights", 'ad_account = "act_１"', "for example act_1234567890"),
        ("insights", "hours = 0.1", ">= 0.25"),
        ("insights", "hours = 25", "<= 24"),
        ("insights", 'acount = "act_1"', "did you mean 'ad_account'?"),
    ],
)
def test_a_bad_value_is_refused_with_what_was_expected(write, section, line, message):
    more = 'access_token = "t"\n' if line.startswith("ad_account") else ""
    (fault,) = faults_of(write(f"[{section}]\n{line}\n{more}" + STORE))
    assert fault.startswith(f"F:2: [{section}] {line.split(' =')[0]}: ")
    assert message in fault


INSIGHTS = '[insights]\nad_account = "act_1"\n'


def test_an_ad_account_needs_a_token_of_its_own(write, tmp_path):
    (fault,) = faults_of(write(INSIGHTS + STORE))
    assert fault == (
        "F:1: [insights] access_token: missing, and ad_account is set; "
        "give access_token_file, or COLLECTOR_INSIGHTS__ACCESS_TOKEN"
    )
    (fault,) = faults_of(write(INSIGHTS + 'access_token_file = "none.token"\n' + STORE))
    assert fault == (
        "F:3: [insights] access_token_file: no such file 'none.token'; "
        "create it or set COLLECTOR_INSIGHTS__ACCESS_TOKEN"
    )
    (fault,) = faults_of(write('[insights]\naccess_token = "t"\n' + STORE))
    assert fault.startswith("F:1: [insights] ad_account: missing: a token alone reads nothing")
    env = {"COLLECTOR_INSIGHTS__ACCESS_TOKEN": "from-env"}
    assert load(write(INSIGHTS + STORE), env).insights.access_token == "from-env"
    (tmp_path / "insights.token").write_text("in-file\n")
    assert (
        load(write(INSIGHTS + 'access_token_file = "insights.token"\n' + STORE), {}).insights.access_token == "in-file"
    )


@pytest.mark.parametrize("role", ["edge", "keeper", "console", "none"])
def test_the_token_of_insights_is_the_couriers_alone(write, role):
    path = write(INSIGHTS + 'access_token = "t"\n' + STORE)
    assert load(path, {}, role=role).insights == InsightsConfig(ad_account="act_1")
    assert load(path, {}, role="courier").insights.access_token == "t"


def test_plain_http_to_the_graph_is_for_loopback_only(write):
    for host in ("127.0.0.1:9000", "localhost:9000", "[::1]:9000"):
        path = write(f'[meta]\nmode = "off"\ngraph_url = "http://{host}"\n' + STORE)
        assert load(path, {}).meta.graph_url == f"http://{host}"


def test_a_file_that_is_not_toml_says_where(write):
    (fault,) = faults_of(write("[edge\n"))
    assert fault.startswith("F: not valid TOML: ")
    assert "line 1" in fault


def test_a_missing_file_says_so(tmp_path):
    assert faults_of(str(tmp_path / "none.toml")) == ["F: cannot read the configuration: No such file or directory"]


def test_the_same_store_or_pixel_twice_is_a_fault(write):
    pixel = '[[store.pixel]]\nid = "12345"\n'
    faults = faults_of(write('[meta]\nmode = "off"\n' + STORE + pixel + pixel + STORE))
    assert faults == [
        "F:8: [store.pixel] id: pixel 12345 is given twice in store 's1'",
        "F:10: [store] id: store 's1' is given twice",
    ]


def test_a_missing_token_file_says_what_to_do(write):
    (fault,) = faults_of(write(SMALLEST))
    assert fault == (
        "F:25: [store.pixel] access_token_file: no such file 'meta.token'; create it or set COLLECTOR_META_TOKEN"
    )


def test_a_token_file_that_others_can_read_is_closed_to_them(write, tmp_path):
    path = write(SMALLEST, meta="EAAtoken")
    token = tmp_path / "meta.token"
    token.chmod(0o640)
    assert load(path, {"CREDENTIALS_DIRECTORY": str(tmp_path)}).store[0].pixel[0].access_token == "EAAtoken"
    assert token.stat().st_mode & 0o777 == 0o640  # what systemd guards is left as it is
    assert load(path, {}).store[0].pixel[0].access_token == "EAAtoken"
    assert token.stat().st_mode & 0o777 == 0o600


def test_a_token_file_that_cannot_be_closed_to_others_is_refused(write, tmp_path, monkeypatch):
    path = write(SMALLEST, meta="EAAtoken")
    (tmp_path / "meta.token").chmod(0o640)

    def not_ours(fd, mode):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchmod", not_ours)
    fault = faults_of(path)[0]
    assert "can be read by others (mode 0640); run: chmod 600" in fault
    assert "EAAtoken" not in fault


def test_the_environment_wins_over_a_token_file(write):
    path = write(SMALLEST, meta="from-file")
    assert load(path, {"COLLECTOR_META_TOKEN": "from-env"}).store[0].pixel[0].access_token == "from-env"
    env = {"COLLECTOR_META_TOKEN": "all", "COLLECTOR_META_TOKEN_123456789012345": "this"}
    assert load(path, env).store[0].pixel[0].access_token == "this"


def test_a_secret_and_its_file_together_are_a_fault(write):
    faults = faults_of(write(SMALLEST + 'access_token = "x"\n', meta="y"))
    assert "'access_token' and 'access_token_file' are both given; keep one" in faults[0]


def test_every_secret_may_be_given_as_a_file(write):
    text = '[console]\npassword_hash_file = "a.token"\n[meta]\nmode = "off"\napp_secret_file = "b.token"\n' + STORE
    config = load(write(text, a=HASH, b="secret"), {})
    assert (config.console.password_hash, config.meta.app_secret) == (
        "scrypt$17$8$1$UEFTU1dPUkQ=$UEFTU1dPUkQ=",
        "secret",
    )


def test_edge_neither_reads_nor_holds_a_meta_token(write, tmp_path):
    path = write(SMALLEST + '[[store.pixel]]\nid = "22222"\naccess_token = "inline"\n', meta="in-file")
    os.unlink(tmp_path / "meta.token")  # edge would fail if it looked
    edge = load(path, {"COLLECTOR_META_TOKEN": "from-env"}, role="edge")
    assert [pixel.access_token for pixel in edge.store[0].pixel] == ["", ""]
    courier = load(path, {"COLLECTOR_META_TOKEN": "from-env"}, role="courier")
    assert courier.store[0].pixel[0].access_token == "from-env"


def test_a_courier_that_reads_again_asks_for_no_token_of_its_supervisors_environment(write):
    text = STORE + '[[store.pixel]]\nid = "12345"\n[insights]\nad_account = "act_1"\n'
    path = write('[meta]\nmode = "live"\n' + text)
    again = load(path, {"COLLECTOR_CONFIG_FD": "7"}, role="courier")
    assert (again.store[0].pixel[0].access_token, again.insights.access_token) == ("", "")
    with pytest.raises(ConfigError) as alone:  # the control: a courier that was started by itself needs both
        load(path, {}, role="courier")
    assert [("access_token" in fault) for fault in alone.value.faults] == [True, True]


def test_each_process_is_handed_only_its_own_secrets(write):
    text = '[console]\npassword_hash = "scrypt$17$8$1$UEFTU1dPUkQ=$UEFTU1dPUkQ="\n[meta]\napp_secret = "APP"\n' + STORE
    config = load(write(text + '[[store.pixel]]\nid = "12345"\naccess_token = "TOK"\n'), {})
    held = {
        role: {s for s in ("scrypt", "APP", "TOK") if s in repr(for_role(config, role))}
        for role in ("edge", "courier", "console")
    }
    assert held == {"edge": set(), "courier": {"APP", "TOK"}, "console": {"scrypt"}}
    assert for_role(config, "all") == config


def test_a_live_store_needs_a_token_where_it_is_sent(write):
    path = write(STORE + '[[store.pixel]]\nid = "12345"\n')
    assert "access_token: missing, and [meta] mode is live" in faults_of(path)[0]
    assert isinstance(load(path, {}, role="edge"), Config)


def test_shown_values_have_their_origin_and_hide_secrets(write):
    path = write(SMALLEST, meta="EAAtoken")
    settings = load_settings(path, {"COLLECTOR_EDGE__WORKERS": "2"}, {"storage.data_dir": "d"})
    shown = {row.key: row for row in rows(settings.config, settings.origins)}
    assert shown["edge.workers"].origin == "COLLECTOR_EDGE__WORKERS"
    assert shown["storage.data_dir"].origin == "flag --data-dir"
    assert shown["meta.mode"].origin == f"{path}:12"
    assert shown["matching.threshold"].origin == "default"
    assert shown["store.0.pixel.0.access_token"].value == "********"
    assert shown["store.0.pixel.0.access_token"].origin == f"{path}:25"
    assert "EAAtoken" not in repr(shown)


def test_an_expired_test_code_and_a_shared_config_file_are_warned_about(write, tmp_path):
    text = (
        STORE
        + '[[store.pixel]]\nid = "12345"\naccess_token = "x"\ntest_event_code = "T"\n'
        + "test_event_code_expires = 2020-01-01T00:00:00Z\n"
    )
    path = write(text)
    (tmp_path / "collector.toml").chmod(0o644)
    expired, shared = (one for one in load_settings(path, {}).warnings if "no domains" not in one)
    assert "expired on 2020-01-01T00:00:00+00:00" in expired
    assert "holds secrets and can be read by others" in shared


def test_a_variable_with_one_underscore_is_warned_about(write):
    env = {"COLLECTOR_EDGE_LISTEN": "x", "COLLECTOR_META_TOKEN_12345": "y", "COLLECTOR_CONFIG": "z"}
    (warning,) = (one for one in load_settings(write(STORE), env).warnings if "no domains" not in one)
    assert warning.startswith("COLLECTOR_EDGE_LISTEN is not read")


def test_lines_are_found_through_comments_arrays_and_long_strings():
    text = (
        '# a\n[a]\nx = [\n  "[b]",\n  "y = 1",\n]\nlong = """\n[c]\nz = 1\n"""\ny = 2 # [d\n'
        '[[b]]\n[[b]]\n"q.r" = {c = 1}\n[[b.s]]\nt.u = 1\n'
    )
    assert line_numbers(text) == {
        ("a",): 2,
        ("a", "x"): 3,
        ("a", "long"): 7,
        ("a", "y"): 11,
        ("b", 0): 12,
        ("b", 1): 13,
        ("b", 1, "q.r"): 14,
        ("b", 1, "s", 0): 15,
        ("b", 1, "s", 0, "t", "u"): 16,
    }


@pytest.mark.parametrize(
    ("domain", "hint"),
    [
        ("bücher.example", "xn--bcher-kva.example"),
        ("www.größe.example", "www.xn--gre-6ka8i.example"),
        ("https://bücher.example/shop", "xn--bcher-kva.example"),
        ("магазин.example", "xn--80aairftm.example"),
        ("https://shop.example/", "shop.example"),
        ("a b", "mystore.com"),
    ],
)
def test_a_domain_with_other_letters_is_told_as_browsers_write_it(domain: str, hint: str) -> None:
    config = Config(store=[StoreConfig(id="a", domains=[domain])])
    (fault,) = [f for f in checks.check(config, role="edge", env={}) if "domains" in f.path]
    assert fault.message.endswith(f"for example {hint}")


@pytest.mark.parametrize("domain", ["shop.example.", "xn--bcher-kva.example", "shop.example.:8080", "*.shop.example"])
def test_a_domain_may_end_with_its_dot(domain: str) -> None:
    assert checks.check(Config(store=[StoreConfig(id="a", domains=[domain])]), role="edge", env={}) == []
    store = StoreConfig(id="a", domains=[domain])
    origins = ("https://shop.example", "https://www.shop.example.", "https://xn--bcher-kva.example")
    assert sum(auth.is_own(origin, store) for origin in origins) == (1 if domain.startswith("xn") else 2)


@pytest.mark.parametrize(
    "proxy", ["0.0.0.0/0", "::/0", "0.0.0.0/1", "128.0.0.0/2", "8.0.0.0/7", "2000::/3", "::ffff:0:0/96", "::/1"]
)
def test_D8_a_proxy_that_is_half_the_internet_is_refused(write, proxy):
    with pytest.raises(ConfigError, match=r":\d+: \[edge\] trusted_proxies: .*trusts strangers.*127\.0\.0\.1/32"):
        load(write(f'[edge]\ntrusted_proxies = ["{proxy}"]\n' + STORE), {})


@pytest.mark.parametrize("proxy", ["10.0.0.0/8", "fc00::/7", "127.0.0.1", "::1", "173.245.48.0/20", "2400:cb00::/32"])
def test_D8_control_a_real_network_of_proxies_is_taken(write, proxy):
    assert load(write(f'[edge]\ntrusted_proxies = ["{proxy}"]\n' + STORE), {}).edge.trusted_proxies == [proxy]


@pytest.mark.parametrize(
    "domain", ["com", "co.uk", "CO.UK", "*.com", "myshopify.com", "github.io", "com:8080", "workers.dev", "kobe.jp"]
)
def test_D8_a_public_suffix_is_refused(write, domain):
    with pytest.raises(ConfigError, match=r":\d+: \[store\] domains: .*is a public suffix.*for example mystore\."):
        load(write(STORE.rstrip() + f'\ndomains = ["{domain}"]\n'), {})


@pytest.mark.parametrize(
    "domain", ["shop.com", "shop.co.uk", "mine.myshopify.com", "localhost", "127.0.0.1", "intranet", "*.shop.com"]
)
def test_D8_control_a_name_below_one_is_taken(write, domain):
    assert load(write(STORE.rstrip() + f'\ndomains = ["{domain}"]\n'), {}).store[0].domains == [domain]


def test_D8_a_store_without_domains_is_warned_about(write):
    warned = "no domains, so pages need its publishable key"
    assert any(warned in one for one in load_settings(write(STORE), {}).warnings)
    assert not any(warned in one for one in load_settings(write(STORE.rstrip() + '\ndomains = ["a.b"]\n'), {}).warnings)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("data", "F/data"), ("./data", "F/data"), ("../data", "P/data"), ("/srv/data", "/srv/data"), ("~/d", "H/d")],
)
def test_the_data_directory_is_found_from_the_files_own_folder(write, monkeypatch, tmp_path, given, expected):
    monkeypatch.setenv("HOME", "/home/jo")
    monkeypatch.chdir("/")
    path = write(f'[storage]\ndata_dir = "{given}"\n' + STORE)
    places = {"F": str(tmp_path), "P": str(tmp_path.parent), "H": "/home/jo"}
    first, slash, rest = expected.partition("/")
    assert load(path, {}).storage.data_dir == places.get(first, first) + slash + rest
    assert load(path, {}, {"storage.data_dir": "~/x"}).storage.data_dir == "/home/jo/x"
    assert load(write(STORE), {}).storage.data_dir == f"{tmp_path}/collector-data", "the default as well"
    assert load(None, {}).storage.data_dir == "./collector-data", "control: without a file, from where one is"


def test_what_was_changed_is_named_without_its_value(write):
    before = load(write(STORE + 'domains = ["a.example"]\n[[store]]\nid = "gone"\n'), {})
    text = (
        '[meta]\nmode = "dry_run"\n[edge]\nworkers = 2\n' + STORE + 'domains = ["b.example"]\n[[store]]\nid = "new"\n'
    )
    after = load(write(text), {})
    assert changed(before, after) == ["edge.workers", "meta.mode", "store.s1.domains", "store.new", "store.gone"]
    assert changed(after, after) == []


def test_a_wrong_user_is_told_whose_it_is_and_who_he_is(monkeypatch, tmp_path):
    secret = tmp_path / "meta.token"
    secret.write_text("x")
    secret.chmod(0o644)
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    told = why(PermissionError(13, "Permission denied"), secret)
    assert told == f"Permission denied; {secret} belongs to {user(os.getuid())} (mode 0644), and this runs as nobody"
    beside = why(PermissionError(13, "Permission denied"), tmp_path / "not" / "there")
    assert beside.startswith(f"Permission denied; {tmp_path} belongs to ")
    assert why(FileNotFoundError(2, "No such file or directory"), secret) == "No such file or directory"
