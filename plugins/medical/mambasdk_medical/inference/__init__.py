"""From files to label maps: tiles, mirroring, the way back to the file's grid."""
