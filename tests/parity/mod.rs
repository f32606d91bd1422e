//! Fast CPU path against the reference in f64, by the noise rule of `engine::testing`.

mod adamw;
mod attention;
mod attention_decode;
mod codebook;
mod cross_entropy;
mod determinism;
mod dropout;
mod embedding;
mod layernorm;
mod linear;
mod reduce;
mod relu;
mod rmsnorm;
mod rope;
mod rq_vae;
mod swiglu;
mod trie_softmax;
