"""What each operation does to what is stored, whichever engine stores it; what they ask of one is in `ports.py`."""
