"""What is trained: one self-contained module a method, backbones from timm."""
