"""Networks of the StyleGAN family."""
