"""The platforms that are known without a word of configuration, as data."""
