"""One problem of back-propagation, one file: the experiment that shows whether a learner has it."""
