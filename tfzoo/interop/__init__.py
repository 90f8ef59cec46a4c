"""Other projects' checkpoints: into runs, and runs into them. Maps of names, and no code of theirs."""
