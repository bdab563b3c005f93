"""What edge and keeper say to each other: operations, results, answers, names, frames. No database is opened here."""
