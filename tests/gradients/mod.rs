//! Reference backward in f64 against central differences.

mod attention;
mod cross_entropy;
mod embedding;
mod layernorm;
mod linear;
mod model;
mod preference;
mod relu;
mod rmsnorm;
mod rope;
mod rq_vae;
mod sasrec;
mod swiglu;
mod trie_softmax;
