"""Who is who: links of visitors and people, who is meant by an erasure, what goes, and who stays forgotten."""
