//! Preference RL: a supervised model learns what people choose. `objective` is what is minimised, given log-probabilities
//! and rewards; `reward` says what an answer is worth.

pub mod objective;
pub mod reward;
