"""Pictures that show at a glance how good a model is and where it errs. The only importer of matplotlib."""
