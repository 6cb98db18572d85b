//! Cryptography behind names of our own: the only module that names a crypto crate.
