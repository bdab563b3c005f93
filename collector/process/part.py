"""Be one of the processes that a supervisor starts: nothing of the command line is loaded here, it is memory."""

from __future__ import annotations

import os
from importlib import import_module
from typing import cast

from collector import certificate, telemetry
from collector.process import handover, hardening
from collector.process.confine import Part, confine
from collector.process.endings import ended

log = telemetry.logger("supervisor")


def run(role: str) -> int:
    """Be this process until it is told to end; its exit code."""
    return ended(lambda: _work(cast(Part, role)), again=True)


def _work(role: Part) -> int:
    """Be the process: take what was handed over, then run the part's own application."""
    hardening.harden()
    if role == "courier":
        hardening.hide_memory()
    given = handover.take(os.environ)
    # Before it is confined, in case a library lies far away. trio, where it is installed, asks a compiler for one.
    run = import_module(f"collector.{role}.app").run
    if role == "courier":
        import_module("httpcore")
    tls = certificate.context_of(given.pair) if given.pair is not None else None
    confined = confine(role, given.config)
    handover.end_with_supervisor(os.environ)
    telemetry.configure(given.config.log, role)
    log.info("the kernel keeps this process to its files and calls", **confined.told())
    match role:
        case "edge":
            code: int = run(given.config, given.fd, given.ready, given.control, tls)
        case "keeper":
            code = run(given.config, given.control, given.ready)
        case "courier":
            code = run(given.config, given.ready)
        case _:
            code = run(given.config, given.fd, given.ready)
    return code
