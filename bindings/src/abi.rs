//! Parameter structs and tile constants of every kernel family, written by bindgen from the contracts
//! `kernels/*.h` (`cargo run -p sidra-abi` after editing one). Sizes, alignments and offsets are
//! asserted at compile time: a layout that C and Rust see differently does not build.
#![allow(missing_docs)]

#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct CodebookParams {
    pub points: u32,
    pub width: u32,
    pub codes: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of CodebookParams"][::core::mem::size_of::<CodebookParams>() - 12usize];
    ["Alignment of CodebookParams"][::core::mem::align_of::<CodebookParams>() - 4usize];
    [
        "Offset of field: CodebookParams::points",
    ][::core::mem::offset_of!(CodebookParams, points) - 0usize];
    [
        "Offset of field: CodebookParams::width",
    ][::core::mem::offset_of!(CodebookParams, width) - 4usize];
    [
        "Offset of field: CodebookParams::codes",
    ][::core::mem::offset_of!(CodebookParams, codes) - 8usize];
};
pub const CODEBOOK_TILE: CodebookTiles = 64;
pub const CODEBOOK_DEPTH: CodebookTiles = 16;
pub const CODEBOOK_SIDE: CodebookTiles = 16;
pub const CODEBOOK_COLUMNS: CodebookTiles = 128;
pub type CodebookTiles = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct RmsnormParams {
    pub rows: u32,
    pub width: u32,
    pub eps: f32,
    pub add: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of RmsnormParams"][::core::mem::size_of::<RmsnormParams>() - 16usize];
    ["Alignment of RmsnormParams"][::core::mem::align_of::<RmsnormParams>() - 4usize];
    [
        "Offset of field: RmsnormParams::rows",
    ][::core::mem::offset_of!(RmsnormParams, rows) - 0usize];
    [
        "Offset of field: RmsnormParams::width",
    ][::core::mem::offset_of!(RmsnormParams, width) - 4usize];
    [
        "Offset of field: RmsnormParams::eps",
    ][::core::mem::offset_of!(RmsnormParams, eps) - 8usize];
    [
        "Offset of field: RmsnormParams::add",
    ][::core::mem::offset_of!(RmsnormParams, add) - 12usize];
};
pub const RMSNORM_WARPS: RmsnormTiles = 4;
pub const RMSNORM_TILE: RmsnormTiles = 64;
pub const RMSNORM_COLUMNS: RmsnormTiles = 128;
pub const RMSNORM_FOLD: RmsnormTiles = 8;
pub type RmsnormTiles = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct TrieSoftmaxParams {
    pub requests: u32,
    pub rows: u32,
    pub width: u32,
    pub vocab: u32,
    pub token_base: u32,
    pub codes: u32,
    pub nodes: u32,
    pub normalise: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of TrieSoftmaxParams"][::core::mem::size_of::<TrieSoftmaxParams>() - 32usize];
    [
        "Alignment of TrieSoftmaxParams",
    ][::core::mem::align_of::<TrieSoftmaxParams>() - 4usize];
    [
        "Offset of field: TrieSoftmaxParams::requests",
    ][::core::mem::offset_of!(TrieSoftmaxParams, requests) - 0usize];
    [
        "Offset of field: TrieSoftmaxParams::rows",
    ][::core::mem::offset_of!(TrieSoftmaxParams, rows) - 4usize];
    [
        "Offset of field: TrieSoftmaxParams::width",
    ][::core::mem::offset_of!(TrieSoftmaxParams, width) - 8usize];
    [
        "Offset of field: TrieSoftmaxParams::vocab",
    ][::core::mem::offset_of!(TrieSoftmaxParams, vocab) - 12usize];
    [
        "Offset of field: TrieSoftmaxParams::token_base",
    ][::core::mem::offset_of!(TrieSoftmaxParams, token_base) - 16usize];
    [
        "Offset of field: TrieSoftmaxParams::codes",
    ][::core::mem::offset_of!(TrieSoftmaxParams, codes) - 20usize];
    [
        "Offset of field: TrieSoftmaxParams::nodes",
    ][::core::mem::offset_of!(TrieSoftmaxParams, nodes) - 24usize];
    [
        "Offset of field: TrieSoftmaxParams::normalise",
    ][::core::mem::offset_of!(TrieSoftmaxParams, normalise) - 28usize];
};
pub const TRIE_SOFTMAX_ALLOWED: TrieSoftmaxConstants = 0;
pub const TRIE_SOFTMAX_LEVEL: TrieSoftmaxConstants = 1;
pub const TRIE_SOFTMAX_VOCABULARY: TrieSoftmaxConstants = 2;
pub const TRIE_SOFTMAX_WARPS: TrieSoftmaxConstants = 4;
pub const TRIE_SOFTMAX_SELECT: TrieSoftmaxConstants = 8;
pub const TRIE_SOFTMAX_WIDTH: TrieSoftmaxConstants = 1024;
pub type TrieSoftmaxConstants = ::core::ffi::c_uint;
