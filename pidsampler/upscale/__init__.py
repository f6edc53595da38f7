"""The application: a photo or a latent in, a 4x photo out."""
