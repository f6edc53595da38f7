"""Files in and out: pictures, latents, captions, lists of times, and the writer that never leaves half a file."""
