"""What Meta's Conversions API takes and answers: states, normal forms, payloads, verdicts."""
