"""What two user agents say about being one device."""

from __future__ import annotations

import pytest

from collector.core.useragents import classify, device, level, same_shell

IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15"
SAFARI = f"{IPHONE} (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1"
FACEBOOK = f"{IPHONE} Mobile/22G86 [FBAN/FBIOS;FBAV/520.0.0.38;FBDV/iPhone15,2;FBMD/iPhone;FBSN/iOS;FBSV/18.6;FBSS/3]"
INSTAGRAM = f"{IPHONE} Mobile/22G86 Instagram 390.0.0.20.76 (iPhone15,2; iOS 18_6; de_DE; scale=3.00)"
IPHONE_OLD = SAFARI.replace("18_6", "17_5")
CHROME_ANDROID = (
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36"
)
FACEBOOK_ANDROID = (
    "Mozilla/5.0 (Linux; Android 15; SM-S918B Build/AP3A; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 "
    "Chrome/142.0.7000.1 Mobile Safari/537.36 [FB_IAB/FB4A;FBAV/520.0.0.40;]"
)
WINDOWS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
)
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:144.0) Gecko/20100101 Firefox/144.0"
MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/18.6 Safari/605.1.15"


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (FACEBOOK, SAFARI, 1),
        (INSTAGRAM, SAFARI, 1),
        (INSTAGRAM, FACEBOOK, 1),
        (SAFARI, IPHONE_OLD, 3),
        (FACEBOOK_ANDROID, CHROME_ANDROID, 2),
        (FACEBOOK_ANDROID, FACEBOOK_ANDROID.replace("Android 15", "Android 14"), 3),
        (WINDOWS, FIREFOX, 3),
        (WINDOWS, MAC, 4),
        (FACEBOOK, WINDOWS, 4),
        (FACEBOOK, CHROME_ANDROID, 4),
        ("", SAFARI, -1),
    ],
)
def test_levels(one: str, other: str, expected: int) -> None:
    assert level(classify(one), classify(other)) == level(classify(other), classify(one)) == expected


def test_an_in_app_browser_is_another_shell_on_the_same_device() -> None:
    assert not same_shell(classify(FACEBOOK), classify(SAFARI))
    assert same_shell(classify(FACEBOOK), classify(INSTAGRAM))
    assert device(classify(FACEBOOK)) == device(classify(SAFARI))


@pytest.mark.parametrize(
    "text", ["x", "curl/8.5", "\x00", "Mozilla/5.0 (iPhone; CPU iPhone OS 99999_99999)", "Android 9999"]
)
def test_any_text_has_a_class_that_fits_a_column(text: str) -> None:
    assert 0 < classify(text) < 2**31
