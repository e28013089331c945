"""Photographs and masks out of files: the only boundary through which image files enter. Light until one is opened."""
