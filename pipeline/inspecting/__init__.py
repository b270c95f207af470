"""What is wrong with the data: frames, takes and labels that a person should look at, and what to film next."""
