"""`collector metrics`: what Grafana and Prometheus need to show and watch ours."""

from __future__ import annotations

import argparse
from importlib import resources


def run(args: argparse.Namespace) -> int:
    name = "dashboard.json" if args.grafana else "alerts.yml"
    print(resources.files("collector.cli").joinpath("assets", name).read_text(encoding="utf-8"), end="")
    return 0
