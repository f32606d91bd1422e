//! embedding: parity
