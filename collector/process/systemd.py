"""What does systemd want to hear of a service (sd_notify(3))?"""

from __future__ import annotations

import contextlib
import os
import socket


def tell(state: str) -> None:
    """Type=notify units wait for READY=1 (sd_notify(3))."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
