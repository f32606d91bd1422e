//! All benches in one binary: `cargo bench -- FILTER`. Each case is checked, then timed.

mod attention;
mod codebook;
mod linear;
mod trie_softmax;

fn main() {}
