//! Reference backward in f64 against central differences.

mod attention;
mod cross_entropy;
mod embedding;
mod linear;
mod model;
mod rmsnorm;
mod rope;
mod swiglu;
mod trie_softmax;
