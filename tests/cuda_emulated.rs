//! The Rust GPU path over the emulated driver of `tests/simt`.
