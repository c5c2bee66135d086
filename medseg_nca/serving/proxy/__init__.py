"""A DICOMweb server behind ours: what of it clients may reach, and how."""
