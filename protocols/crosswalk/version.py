STREET_VERSION = 2  # goes up with every change that alters a byte of any image, name or label
