"""What is answered over HTTP: the application and its routes, one file a surface."""
