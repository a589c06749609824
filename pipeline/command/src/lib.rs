//! What the command lines of the two programs share: completions, manual pages, colour.
