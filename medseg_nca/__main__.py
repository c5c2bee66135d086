"""``python -m medseg_nca`` is the command ``medseg-nca``."""

from medseg_nca.cli.main import main

if __name__ == "__main__":
    main()
