//! attention_decode
