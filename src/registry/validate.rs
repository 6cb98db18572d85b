//! What names and tokens may look like.
