//! Tools for CPU code: the twin of `kernels/common`. SIMD by run-time choice (`simd`), counter-based
//! random numbers (`random`), fixed tiles for the pool (`tiles`), the GEMM micro-kernels (`gemm`), small
//! products inside one task (`micro`), matrices cut up for tasks to write (`blocks`). Operators live
//! in `ops`.

pub mod blocks;
pub mod gemm;
pub mod micro;
pub mod random;
pub mod simd;
pub mod tiles;
