"""The public door: takes clicks and conversions, answers once they are on disk."""
