"""Readers of StyleGAN and PGGAN checkpoints made by other software.

Nothing in a file is executed: see `gsegkit_foreign`.
"""
