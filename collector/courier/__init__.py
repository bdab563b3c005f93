"""The delivery process: drains the outbox to Meta and keeps the house."""
