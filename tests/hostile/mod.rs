//! Bad input: one clear error each, nothing lost.

mod checkpoint;
mod cli;
mod data;
mod recipe;
mod sid;
