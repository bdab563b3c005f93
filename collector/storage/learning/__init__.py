"""What a night reads and teaches: labels, sightings, and each store's models."""
