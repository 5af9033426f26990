STREET_VERSION = 2  # goes up with every change that alters a byte of any Market-1501 image, name or label
FILES_VERSION = 3  # goes up with every other change to what a layout writes; decides where streets are cached
