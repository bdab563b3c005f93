"""What an event is and what follows from it: pure functions, no IO, no clock, no randomness."""
