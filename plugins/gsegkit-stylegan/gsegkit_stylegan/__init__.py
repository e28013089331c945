"""Generators pggan, stylegan and stylegan2 for gsegkit, with safe readers and a trainer."""
