"""What a new file gets, what the kernel would answer, and why: the Unix half of the model."""
