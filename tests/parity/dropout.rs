//! dropout: parity
