"""From volumes to what models see, and back to the source grid."""
