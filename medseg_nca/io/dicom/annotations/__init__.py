"""SEG and RTSTRUCT: which image they belong to, and their segments on its grid."""
