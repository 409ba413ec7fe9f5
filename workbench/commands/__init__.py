"""The commands of `workbench`, a file each; a file offers ``add(commands)``, which declares its parsers."""
