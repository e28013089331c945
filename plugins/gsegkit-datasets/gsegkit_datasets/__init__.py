"""Readers of image folders with and without masks for gsegkit."""
