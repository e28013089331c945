"""Segmenters for gsegkit: every segmentation-models-pytorch architecture, any smp or timm encoder."""
