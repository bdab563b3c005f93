"""Collector: a self-hosted edge collector for Meta ads."""

__version__ = "0.3.0"
