"""Cases with many samples: streamed, judged as a whole, and resumable."""
