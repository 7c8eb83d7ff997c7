"""One problem in four libraries: drift and diffusion two small networks with the same weights, noise diagonal."""
