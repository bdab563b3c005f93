"""User agents as a shop sees them: few and common in browsers, many and rare in Meta's apps."""

from __future__ import annotations

from functools import cache
from zlib import crc32

from collector.core.useragents import classify

_IOS = ("26_1", "18_6", "18_5", "18_3", "17_7", "17_5", "16_7", "15_8")
_ANDROID = ("16", "15", "14", "13", "12")
_WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
_CHROME = "AppleWebKit/537.36 (KHTML, like Gecko)"


TEXTS: dict[int, str] = {}  # by key, for tests that post them


@cache
def user_agent(kind: str, shell: str, model: str, version: int, app: int, era: int) -> tuple[int, int]:
    """(key, packed class) of the user agent; `era` counts the four-week updates of browser and app."""
    text = _app(kind, model, version, app, era) if shell == "app" else _browser(kind, version, app, era)
    key = crc32(text.encode()) + 1
    TEXTS[key] = text
    return key, classify(text)


def _browser(kind: str, version: int, app: int, era: int) -> str:
    chrome = f"Chrome/{140 + era - (app > 2)}.0.0.0"  # the reduced agents of today: no build, no model
    if kind == "ios":
        os = _IOS[version]
        safari = f"Version/{os[:2]}.0 Mobile/15E148 Safari/604.1"
        return f"Mozilla/5.0 (iPhone; CPU iPhone OS {os} like Mac OS X) {_WEBKIT} {safari}"
    if kind == "android":
        samsung = " SamsungBrowser/28.0" if app == 1 else ""
        return f"Mozilla/5.0 (Linux; Android 10; K) {_CHROME}{samsung} {chrome} Mobile Safari/537.36"
    if kind == "mac":
        return f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_WEBKIT} Version/{17 + app % 3}.{era} Safari/605.1.15"
    edge = " Edg/140.0.0.0" if app == 1 else ""
    return f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_CHROME} {chrome} Safari/537.36{edge}"


def _app(kind: str, model: str, version: int, app: int, era: int) -> str:
    build = 520 + 4 * era - app  # weekly builds; phones lag behind
    if kind == "ios":
        os = _IOS[version]
        return (
            f"Mozilla/5.0 (iPhone; CPU iPhone OS {os} like Mac OS X) {_WEBKIT} Mobile/22G100 "
            f"[FBAN/FBIOS;FBAV/{build}.0.0.50;"
            f"FBDV/iPhone{model};FBMD/iPhone;FBSN/iOS;FBSV/{os.replace('_', '.')};FBSS/3;FBLC/en_US]"
        )
    return (
        f"Mozilla/5.0 (Linux; Android {_ANDROID[version]}; SM-{model} Build/UP1A; wv) {_CHROME} Version/4.0 "
        f"Chrome/{140 + era}.0.7000.{app} Mobile Safari/537.36 [FB_IAB/FB4A;FBAV/{build}.0.0.40;]"
    )
