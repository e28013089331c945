"""Small generator weights for gsegkit, trained by its own trainers."""
