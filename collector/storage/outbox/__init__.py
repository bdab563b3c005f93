"""What waits for Meta, and for the shop: written with its event, claimed, settled, replayed; the courier's upkeep."""
