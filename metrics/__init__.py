"""How good translations are: KID and FID on Inception features, and paired measures where the true image is known."""
