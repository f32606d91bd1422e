//! cross_entropy: parity
