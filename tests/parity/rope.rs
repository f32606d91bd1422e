//! rope: parity
