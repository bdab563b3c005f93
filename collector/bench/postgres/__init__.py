"""The second engine beside the first, in the same run: `collector bench --engine postgres`."""
