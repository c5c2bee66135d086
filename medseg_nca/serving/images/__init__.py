"""Where the images come from that clients name: a folder of the server, or a DICOMweb server."""
