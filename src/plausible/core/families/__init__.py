"""Families own the machinery, and leave one method to each rule."""
