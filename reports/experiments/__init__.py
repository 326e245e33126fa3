"""The project's experiments, a file each: a question, the runs that answer it, and what they found."""
