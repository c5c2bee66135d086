"""From what files say to the volumes of a series, or the reasons why there are none."""
