"""What kind of device a user agent names: `classify` packs platform, system, version and shell; `level` compares two.

Layout of the packed class, low bits first: version minor (6), version major (10), system (4), platform (3), shell (2).
0 means unknown. Exact equality of user agents is decided by their keyed hashes, not here.
"""

from __future__ import annotations

import re

from collector.core.remembered import remembered

UNKNOWN = -1
PHONE, TABLET, DESKTOP, OTHER = 1, 2, 3, 4
IOS, ANDROID, WINDOWS, MAC, LINUX, CHROME_OS, OTHER_SYSTEM = 1, 2, 3, 4, 5, 6, 7
BROWSER, IN_APP = 1, 2

_SYSTEM_SHIFT, _PLATFORM_SHIFT, _SHELL_SHIFT = 16, 20, 23
_VERSION_MASK = 0xFFFF

# Meta's apps, and the others whose in-app browsers carry shop links.
_IN_APP = re.compile(
    r"FBAN|FBAV|FB_IAB|FBIOS|Instagram|Barcelona|Threads|musical_ly|BytedanceWebview|TikTok|Pinterest|Snapchat|Twitter|"
    r"LinkedInApp|MicroMessenger|Line/|WhatsApp|GSA/|; wv\)"
)
_IOS_VERSION = re.compile(r"(?:CPU (?:iPhone )?OS|iPhone OS|iOS)[ /](\d{1,3})[._](\d{1,2})")
_FB_IOS_VERSION = re.compile(r"FBSV/(\d{1,3})(?:\.(\d{1,2}))?")
_ANDROID_VERSION = re.compile(r"Android (\d{1,3})(?:\.(\d{1,2}))?")
_MAC_VERSION = re.compile(r"Mac OS X (\d{1,3})[._](\d{1,2})")
_WINDOWS_VERSION = re.compile(r"Windows NT (\d{1,3})\.(\d{1,2})")


@remembered(8192)
def classify(user_agent: str) -> int:
    """The packed class of a user agent; 0 when it says nothing."""
    if not user_agent:
        return 0
    shell = IN_APP if _IN_APP.search(user_agent) else BROWSER
    platform, system, version = _device(user_agent)
    return shell << _SHELL_SHIFT | platform << _PLATFORM_SHIFT | system << _SYSTEM_SHIFT | version


def _device(ua: str) -> tuple[int, int, int]:
    if "iPhone" in ua or "iPod" in ua:
        return PHONE, IOS, _ios_version(ua)
    if "iPad" in ua:
        return TABLET, IOS, _ios_version(ua)
    if "Android" in ua:
        return ((PHONE if "Mobile" in ua or "FB_IAB" in ua else TABLET), ANDROID, _android_version(ua))
    for token, system, pattern in (("Windows", WINDOWS, _WINDOWS_VERSION), ("Mac OS X", MAC, _MAC_VERSION)):
        if token in ua:
            return DESKTOP, system, _version(pattern, ua)
    if "CrOS" in ua:
        return DESKTOP, CHROME_OS, 0
    return (DESKTOP, LINUX, 0) if "Linux" in ua or "X11" in ua else (OTHER, OTHER_SYSTEM, 0)


def _version(pattern: re.Pattern[str], ua: str) -> int:
    found = pattern.search(ua)
    if found is None:
        return 0
    return min(int(found[1]), 1023) << 6 | min(int(found[2] or 0), 63)


def _ios_version(ua: str) -> int:
    """Meta's own FBSV where it is given: WebKit's token is frozen on some systems."""
    return _version(_FB_IOS_VERSION, ua) or _version(_IOS_VERSION, ua)


def _android_version(ua: str) -> int:
    """The major version only; Chrome's reduced "Android 10; K" says nothing."""
    if "Android 10; K)" in ua:
        return 0
    return _version(_ANDROID_VERSION, ua) & ~0x3F


def device(packed: int) -> int:
    """The class without its shell."""
    return packed & ((1 << _SHELL_SHIFT) - 1)


def system(packed: int) -> int:
    """IOS, ANDROID, …; 0 where it is unknown."""
    return packed >> _SYSTEM_SHIFT & 0xF


def in_app(packed: int) -> bool:
    """An app's own browser."""
    return packed >> _SHELL_SHIFT == IN_APP


def same_shell(a: int, b: int) -> bool:
    """Both in a browser, or both in an app: the two may share one cookie jar."""
    return a >> _SHELL_SHIFT == b >> _SHELL_SHIFT


def level(a: int, b: int) -> int:
    """How near two classes are: 1 same iOS version, 2 same Android, 3 same system, 4 other platform, -1 unknown.

    The shells may differ: the point of 1 and 2 is a hand-over from an in-app browser to Safari or Chrome.
    """
    if not a or not b:
        return UNKNOWN
    system = a >> _SYSTEM_SHIFT & 0xF
    if system != b >> _SYSTEM_SHIFT & 0xF or a >> _PLATFORM_SHIFT & 7 != b >> _PLATFORM_SHIFT & 7:
        return 4
    one, other = a & _VERSION_MASK, b & _VERSION_MASK
    if system == IOS and one == other and one:
        return 1
    if system == ANDROID and (one == other or not one or not other):
        return 2
    return 3
