"""Residual GANs: one family of networks behind BigGAN, BigBiGAN, the GANs of StudioGAN and SelfCondGAN.

A library for the plugins of those names, not a plugin: it brings no component.
"""
