"""Generator dcgan for gsegkit: small convolutional GANs, trainable."""
