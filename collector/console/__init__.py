"""The private door: dashboard, reports and metrics, read-only."""
