"""Using a trained model: predictor and its engines, translate, export, the page."""
