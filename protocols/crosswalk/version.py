STREET_VERSION = 1  # goes up with every change that alters a byte of any image, name or label
