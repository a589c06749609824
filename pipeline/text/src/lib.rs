//! Text to tokens as the published recipe has it.
