//! attention: parity
