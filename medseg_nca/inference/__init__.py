"""Running a trained model: the bundle of files, and the one predictor that everything uses."""
