"""What methods, protocols and reproductions share: plug-in registries, errors and safe files."""
