//! attention_decode: parity
