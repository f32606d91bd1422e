//! Parameter structs and tile constants of every kernel family, written by bindgen from the contracts
//! `kernels/*.h` (`cargo run -p sidra-abi` after editing one). Sizes, alignments and offsets are
//! asserted at compile time: a layout that C and Rust see differently does not build.
#![allow(missing_docs)]

#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct AdamwParams {
    pub beta1: f64,
    pub beta2: f64,
    pub weight_decay: f64,
    pub clip: f64,
    pub eps: f64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of AdamwParams"][::core::mem::size_of::<AdamwParams>() - 40usize];
    ["Alignment of AdamwParams"][::core::mem::align_of::<AdamwParams>() - 8usize];
    [
        "Offset of field: AdamwParams::beta1",
    ][::core::mem::offset_of!(AdamwParams, beta1) - 0usize];
    [
        "Offset of field: AdamwParams::beta2",
    ][::core::mem::offset_of!(AdamwParams, beta2) - 8usize];
    [
        "Offset of field: AdamwParams::weight_decay",
    ][::core::mem::offset_of!(AdamwParams, weight_decay) - 16usize];
    [
        "Offset of field: AdamwParams::clip",
    ][::core::mem::offset_of!(AdamwParams, clip) - 24usize];
    [
        "Offset of field: AdamwParams::eps",
    ][::core::mem::offset_of!(AdamwParams, eps) - 32usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct AdamwPace {
    pub rate: f32,
    pub grad_scale: f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of AdamwPace"][::core::mem::size_of::<AdamwPace>() - 8usize];
    ["Alignment of AdamwPace"][::core::mem::align_of::<AdamwPace>() - 4usize];
    [
        "Offset of field: AdamwPace::rate",
    ][::core::mem::offset_of!(AdamwPace, rate) - 0usize];
    [
        "Offset of field: AdamwPace::grad_scale",
    ][::core::mem::offset_of!(AdamwPace, grad_scale) - 4usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct AdamwFactors {
    pub norm: f64,
    pub loss: f64,
    pub steps: u64,
    pub skipped: u64,
    pub grad_scale: f32,
    pub rate: f32,
    pub root: f32,
    pub keep: f32,
    pub live: u32,
    pub unused: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of AdamwFactors"][::core::mem::size_of::<AdamwFactors>() - 56usize];
    ["Alignment of AdamwFactors"][::core::mem::align_of::<AdamwFactors>() - 8usize];
    [
        "Offset of field: AdamwFactors::norm",
    ][::core::mem::offset_of!(AdamwFactors, norm) - 0usize];
    [
        "Offset of field: AdamwFactors::loss",
    ][::core::mem::offset_of!(AdamwFactors, loss) - 8usize];
    [
        "Offset of field: AdamwFactors::steps",
    ][::core::mem::offset_of!(AdamwFactors, steps) - 16usize];
    [
        "Offset of field: AdamwFactors::skipped",
    ][::core::mem::offset_of!(AdamwFactors, skipped) - 24usize];
    [
        "Offset of field: AdamwFactors::grad_scale",
    ][::core::mem::offset_of!(AdamwFactors, grad_scale) - 32usize];
    [
        "Offset of field: AdamwFactors::rate",
    ][::core::mem::offset_of!(AdamwFactors, rate) - 36usize];
    [
        "Offset of field: AdamwFactors::root",
    ][::core::mem::offset_of!(AdamwFactors, root) - 40usize];
    [
        "Offset of field: AdamwFactors::keep",
    ][::core::mem::offset_of!(AdamwFactors, keep) - 44usize];
    [
        "Offset of field: AdamwFactors::live",
    ][::core::mem::offset_of!(AdamwFactors, live) - 48usize];
    [
        "Offset of field: AdamwFactors::unused",
    ][::core::mem::offset_of!(AdamwFactors, unused) - 52usize];
};
pub const ADAMW_THREADS: AdamwTiles = 256;
pub const ADAMW_PIECE: AdamwTiles = 8192;
pub const ADAMW_ENTRY: AdamwTiles = 7;
pub type AdamwTiles = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct AttentionParams {
    pub heads: u32,
    pub kv_heads: u32,
    pub scale: f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of AttentionParams"][::core::mem::size_of::<AttentionParams>() - 12usize];
    [
        "Alignment of AttentionParams",
    ][::core::mem::align_of::<AttentionParams>() - 4usize];
    [
        "Offset of field: AttentionParams::heads",
    ][::core::mem::offset_of!(AttentionParams, heads) - 0usize];
    [
        "Offset of field: AttentionParams::kv_heads",
    ][::core::mem::offset_of!(AttentionParams, kv_heads) - 4usize];
    [
        "Offset of field: AttentionParams::scale",
    ][::core::mem::offset_of!(AttentionParams, scale) - 8usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct AttentionQueryTile {
    pub query: u32,
    pub queries: u32,
    pub key: u32,
    pub keys: u32,
    pub shared: u32,
    pub own: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of AttentionQueryTile",
    ][::core::mem::size_of::<AttentionQueryTile>() - 24usize];
    [
        "Alignment of AttentionQueryTile",
    ][::core::mem::align_of::<AttentionQueryTile>() - 4usize];
    [
        "Offset of field: AttentionQueryTile::query",
    ][::core::mem::offset_of!(AttentionQueryTile, query) - 0usize];
    [
        "Offset of field: AttentionQueryTile::queries",
    ][::core::mem::offset_of!(AttentionQueryTile, queries) - 4usize];
    [
        "Offset of field: AttentionQueryTile::key",
    ][::core::mem::offset_of!(AttentionQueryTile, key) - 8usize];
    [
        "Offset of field: AttentionQueryTile::keys",
    ][::core::mem::offset_of!(AttentionQueryTile, keys) - 12usize];
    [
        "Offset of field: AttentionQueryTile::shared",
    ][::core::mem::offset_of!(AttentionQueryTile, shared) - 16usize];
    [
        "Offset of field: AttentionQueryTile::own",
    ][::core::mem::offset_of!(AttentionQueryTile, own) - 20usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct AttentionKeyTile {
    pub key: u32,
    pub keys: u32,
    pub query: u32,
    pub queries: u32,
    pub ahead: u32,
    pub branch: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of AttentionKeyTile"][::core::mem::size_of::<AttentionKeyTile>() - 24usize];
    [
        "Alignment of AttentionKeyTile",
    ][::core::mem::align_of::<AttentionKeyTile>() - 4usize];
    [
        "Offset of field: AttentionKeyTile::key",
    ][::core::mem::offset_of!(AttentionKeyTile, key) - 0usize];
    [
        "Offset of field: AttentionKeyTile::keys",
    ][::core::mem::offset_of!(AttentionKeyTile, keys) - 4usize];
    [
        "Offset of field: AttentionKeyTile::query",
    ][::core::mem::offset_of!(AttentionKeyTile, query) - 8usize];
    [
        "Offset of field: AttentionKeyTile::queries",
    ][::core::mem::offset_of!(AttentionKeyTile, queries) - 12usize];
    [
        "Offset of field: AttentionKeyTile::ahead",
    ][::core::mem::offset_of!(AttentionKeyTile, ahead) - 16usize];
    [
        "Offset of field: AttentionKeyTile::branch",
    ][::core::mem::offset_of!(AttentionKeyTile, branch) - 20usize];
};
pub const ATTENTION_ROWS: AttentionTiles = 128;
pub const ATTENTION_COLUMNS: AttentionTiles = 64;
pub const ATTENTION_WARPS: AttentionTiles = 4;
pub const ATTENTION_DELTA: AttentionTiles = 256;
pub const ATTENTION_FORWARD_BYTES: AttentionTiles = 768;
pub const ATTENTION_BACKWARD_BYTES: AttentionTiles = 1024;
pub const ATTENTION_STATS_BYTES: AttentionTiles = 1024;
pub const ATTENTION_BRANCHES_BYTES: AttentionTiles = 512;
pub type AttentionTiles = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct AttentionDecodeParams {
    pub requests: u32,
    pub beams: u32,
    pub heads: u32,
    pub kv_heads: u32,
    pub head_dim: u32,
    pub keys: u32,
    pub steps: u32,
    pub parts: u32,
    pub scale: f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of AttentionDecodeParams",
    ][::core::mem::size_of::<AttentionDecodeParams>() - 36usize];
    [
        "Alignment of AttentionDecodeParams",
    ][::core::mem::align_of::<AttentionDecodeParams>() - 4usize];
    [
        "Offset of field: AttentionDecodeParams::requests",
    ][::core::mem::offset_of!(AttentionDecodeParams, requests) - 0usize];
    [
        "Offset of field: AttentionDecodeParams::beams",
    ][::core::mem::offset_of!(AttentionDecodeParams, beams) - 4usize];
    [
        "Offset of field: AttentionDecodeParams::heads",
    ][::core::mem::offset_of!(AttentionDecodeParams, heads) - 8usize];
    [
        "Offset of field: AttentionDecodeParams::kv_heads",
    ][::core::mem::offset_of!(AttentionDecodeParams, kv_heads) - 12usize];
    [
        "Offset of field: AttentionDecodeParams::head_dim",
    ][::core::mem::offset_of!(AttentionDecodeParams, head_dim) - 16usize];
    [
        "Offset of field: AttentionDecodeParams::keys",
    ][::core::mem::offset_of!(AttentionDecodeParams, keys) - 20usize];
    [
        "Offset of field: AttentionDecodeParams::steps",
    ][::core::mem::offset_of!(AttentionDecodeParams, steps) - 24usize];
    [
        "Offset of field: AttentionDecodeParams::parts",
    ][::core::mem::offset_of!(AttentionDecodeParams, parts) - 28usize];
    [
        "Offset of field: AttentionDecodeParams::scale",
    ][::core::mem::offset_of!(AttentionDecodeParams, scale) - 32usize];
};
pub const ATTENTION_DECODE_WARPS: AttentionDecodeTiles = 4;
pub const ATTENTION_DECODE_COLUMNS: AttentionDecodeTiles = 64;
pub const ATTENTION_DECODE_ROWS: AttentionDecodeTiles = 128;
pub const ATTENTION_DECODE_BYTES: AttentionDecodeTiles = 768;
pub const ATTENTION_DECODE_FEW_ROWS: AttentionDecodeTiles = 32;
pub const ATTENTION_DECODE_FEW_BYTES: AttentionDecodeTiles = 832;
pub const ATTENTION_DECODE_PARTS: AttentionDecodeTiles = 8;
pub type AttentionDecodeTiles = ::core::ffi::c_uint;
pub const ATTENTION_SM90_COLUMNS: AttentionSm90Tiles = 128;
pub const ATTENTION_SM90_STAGES: AttentionSm90Tiles = 2;
pub const ATTENTION_SM90_THREADS: AttentionSm90Tiles = 384;
pub const ATTENTION_SM90_BOX: AttentionSm90Tiles = 64;
pub const ATTENTION_SM90_STEP: AttentionSm90Tiles = 8192;
pub const ATTENTION_SM90_FORWARD_BYTES: AttentionSm90Tiles = 1280;
pub const ATTENTION_SM90_BACKWARD_BYTES: AttentionSm90Tiles = 512;
pub const ATTENTION_SM90_RING_BYTES: AttentionSm90Tiles = 68608;
pub const ATTENTION_SM90_BARRIER_BYTES: AttentionSm90Tiles = 128;
pub const ATTENTION_SM90_DS_BYTES: AttentionSm90Tiles = 512;
pub const ATTENTION_SM90_SUMS_BYTES: AttentionSm90Tiles = 33792;
pub const ATTENTION_SM90_SPARE: AttentionSm90Tiles = 128;
pub type AttentionSm90Tiles = ::core::ffi::c_uint;
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
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct CodebookUpdateParams {
    pub points: u32,
    pub width: u32,
    pub codes: u32,
    pub chunk: u32,
    pub chunks: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of CodebookUpdateParams",
    ][::core::mem::size_of::<CodebookUpdateParams>() - 20usize];
    [
        "Alignment of CodebookUpdateParams",
    ][::core::mem::align_of::<CodebookUpdateParams>() - 4usize];
    [
        "Offset of field: CodebookUpdateParams::points",
    ][::core::mem::offset_of!(CodebookUpdateParams, points) - 0usize];
    [
        "Offset of field: CodebookUpdateParams::width",
    ][::core::mem::offset_of!(CodebookUpdateParams, width) - 4usize];
    [
        "Offset of field: CodebookUpdateParams::codes",
    ][::core::mem::offset_of!(CodebookUpdateParams, codes) - 8usize];
    [
        "Offset of field: CodebookUpdateParams::chunk",
    ][::core::mem::offset_of!(CodebookUpdateParams, chunk) - 12usize];
    [
        "Offset of field: CodebookUpdateParams::chunks",
    ][::core::mem::offset_of!(CodebookUpdateParams, chunks) - 16usize];
};
pub const CODEBOOK_TILE: CodebookTiles = 64;
pub const CODEBOOK_DEPTH: CodebookTiles = 16;
pub const CODEBOOK_SIDE: CodebookTiles = 16;
pub const CODEBOOK_COLUMNS: CodebookTiles = 128;
pub const CODEBOOK_WARPS: CodebookTiles = 4;
pub const CODEBOOK_CHUNK: CodebookTiles = 1024;
pub const CODEBOOK_PIECE: CodebookTiles = 4096;
pub type CodebookTiles = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ConvertParams {
    pub at: u64,
    pub len: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ConvertParams"][::core::mem::size_of::<ConvertParams>() - 16usize];
    ["Alignment of ConvertParams"][::core::mem::align_of::<ConvertParams>() - 8usize];
    [
        "Offset of field: ConvertParams::at",
    ][::core::mem::offset_of!(ConvertParams, at) - 0usize];
    [
        "Offset of field: ConvertParams::len",
    ][::core::mem::offset_of!(ConvertParams, len) - 8usize];
};
pub const CONVERT_THREADS: ConvertTiles = 256;
pub type ConvertTiles = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct CrossEntropyParams {
    pub rows: u32,
    pub width: u32,
    pub vocab: u32,
    pub span: u32,
    pub parts: u32,
    pub first: u32,
    pub tokens: u32,
    pub stride: u32,
    pub smoothing: f32,
    pub scale: f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of CrossEntropyParams",
    ][::core::mem::size_of::<CrossEntropyParams>() - 40usize];
    [
        "Alignment of CrossEntropyParams",
    ][::core::mem::align_of::<CrossEntropyParams>() - 4usize];
    [
        "Offset of field: CrossEntropyParams::rows",
    ][::core::mem::offset_of!(CrossEntropyParams, rows) - 0usize];
    [
        "Offset of field: CrossEntropyParams::width",
    ][::core::mem::offset_of!(CrossEntropyParams, width) - 4usize];
    [
        "Offset of field: CrossEntropyParams::vocab",
    ][::core::mem::offset_of!(CrossEntropyParams, vocab) - 8usize];
    [
        "Offset of field: CrossEntropyParams::span",
    ][::core::mem::offset_of!(CrossEntropyParams, span) - 12usize];
    [
        "Offset of field: CrossEntropyParams::parts",
    ][::core::mem::offset_of!(CrossEntropyParams, parts) - 16usize];
    [
        "Offset of field: CrossEntropyParams::first",
    ][::core::mem::offset_of!(CrossEntropyParams, first) - 20usize];
    [
        "Offset of field: CrossEntropyParams::tokens",
    ][::core::mem::offset_of!(CrossEntropyParams, tokens) - 24usize];
    [
        "Offset of field: CrossEntropyParams::stride",
    ][::core::mem::offset_of!(CrossEntropyParams, stride) - 28usize];
    [
        "Offset of field: CrossEntropyParams::smoothing",
    ][::core::mem::offset_of!(CrossEntropyParams, smoothing) - 32usize];
    [
        "Offset of field: CrossEntropyParams::scale",
    ][::core::mem::offset_of!(CrossEntropyParams, scale) - 36usize];
};
pub const CROSS_ENTROPY_NONE: CrossEntropyLabel = 4294967295;
pub type CrossEntropyLabel = ::core::ffi::c_uint;
pub const CROSS_ENTROPY_THREADS: CrossEntropyTiles = 128;
pub const CROSS_ENTROPY_TILE: CrossEntropyTiles = 128;
pub const CROSS_ENTROPY_TILE_BYTES: CrossEntropyTiles = 65536;
pub const CROSS_ENTROPY_SMALL: CrossEntropyTiles = 64;
pub const CROSS_ENTROPY_SMALL_BYTES: CrossEntropyTiles = 49152;
pub const CROSS_ENTROPY_WARPS: CrossEntropyTiles = 4;
pub const CROSS_ENTROPY_PARTS: CrossEntropyTiles = 256;
pub type CrossEntropyTiles = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct DropoutParams {
    pub offset: u64,
    pub key: [u32; 2usize],
    pub name: [u32; 2usize],
    pub len: u32,
    pub below: u32,
    pub scale: f32,
    pub unused: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of DropoutParams"][::core::mem::size_of::<DropoutParams>() - 40usize];
    ["Alignment of DropoutParams"][::core::mem::align_of::<DropoutParams>() - 8usize];
    [
        "Offset of field: DropoutParams::offset",
    ][::core::mem::offset_of!(DropoutParams, offset) - 0usize];
    [
        "Offset of field: DropoutParams::key",
    ][::core::mem::offset_of!(DropoutParams, key) - 8usize];
    [
        "Offset of field: DropoutParams::name",
    ][::core::mem::offset_of!(DropoutParams, name) - 16usize];
    [
        "Offset of field: DropoutParams::len",
    ][::core::mem::offset_of!(DropoutParams, len) - 24usize];
    [
        "Offset of field: DropoutParams::below",
    ][::core::mem::offset_of!(DropoutParams, below) - 28usize];
    [
        "Offset of field: DropoutParams::scale",
    ][::core::mem::offset_of!(DropoutParams, scale) - 32usize];
    [
        "Offset of field: DropoutParams::unused",
    ][::core::mem::offset_of!(DropoutParams, unused) - 36usize];
};
pub const DROPOUT_THREADS: DropoutTiles = 256;
pub type DropoutTiles = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct EmbeddingParams {
    pub tokens: u32,
    pub vocab: u32,
    pub width: u32,
    pub shift: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of EmbeddingParams"][::core::mem::size_of::<EmbeddingParams>() - 16usize];
    [
        "Alignment of EmbeddingParams",
    ][::core::mem::align_of::<EmbeddingParams>() - 4usize];
    [
        "Offset of field: EmbeddingParams::tokens",
    ][::core::mem::offset_of!(EmbeddingParams, tokens) - 0usize];
    [
        "Offset of field: EmbeddingParams::vocab",
    ][::core::mem::offset_of!(EmbeddingParams, vocab) - 4usize];
    [
        "Offset of field: EmbeddingParams::width",
    ][::core::mem::offset_of!(EmbeddingParams, width) - 8usize];
    [
        "Offset of field: EmbeddingParams::shift",
    ][::core::mem::offset_of!(EmbeddingParams, shift) - 12usize];
};
pub const EMBEDDING_THREADS: EmbeddingTiles = 256;
pub const EMBEDDING_COLUMNS: EmbeddingTiles = 256;
pub const EMBEDDING_PIECE: EmbeddingTiles = 64;
pub const EMBEDDING_SORT: EmbeddingTiles = 1024;
pub const EMBEDDING_DIGITS: EmbeddingTiles = 256;
pub type EmbeddingTiles = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct LayernormParams {
    pub rows: u32,
    pub width: u32,
    pub eps: f32,
    pub add: u32,
    pub lanes: u32,
    pub tile: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of LayernormParams"][::core::mem::size_of::<LayernormParams>() - 24usize];
    [
        "Alignment of LayernormParams",
    ][::core::mem::align_of::<LayernormParams>() - 4usize];
    [
        "Offset of field: LayernormParams::rows",
    ][::core::mem::offset_of!(LayernormParams, rows) - 0usize];
    [
        "Offset of field: LayernormParams::width",
    ][::core::mem::offset_of!(LayernormParams, width) - 4usize];
    [
        "Offset of field: LayernormParams::eps",
    ][::core::mem::offset_of!(LayernormParams, eps) - 8usize];
    [
        "Offset of field: LayernormParams::add",
    ][::core::mem::offset_of!(LayernormParams, add) - 12usize];
    [
        "Offset of field: LayernormParams::lanes",
    ][::core::mem::offset_of!(LayernormParams, lanes) - 16usize];
    [
        "Offset of field: LayernormParams::tile",
    ][::core::mem::offset_of!(LayernormParams, tile) - 20usize];
};
pub const LAYERNORM_THREADS: LayernormTiles = 256;
pub const LAYERNORM_TILE: LayernormTiles = 256;
pub const LAYERNORM_FOLD: LayernormTiles = 16;
pub type LayernormTiles = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct LinearParams {
    pub m: u32,
    pub n: u32,
    pub k: u32,
    pub a_stride: u32,
    pub b_stride: u32,
    pub chunk: u32,
    pub splits: u32,
    pub flags: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of LinearParams"][::core::mem::size_of::<LinearParams>() - 32usize];
    ["Alignment of LinearParams"][::core::mem::align_of::<LinearParams>() - 4usize];
    [
        "Offset of field: LinearParams::m",
    ][::core::mem::offset_of!(LinearParams, m) - 0usize];
    [
        "Offset of field: LinearParams::n",
    ][::core::mem::offset_of!(LinearParams, n) - 4usize];
    [
        "Offset of field: LinearParams::k",
    ][::core::mem::offset_of!(LinearParams, k) - 8usize];
    [
        "Offset of field: LinearParams::a_stride",
    ][::core::mem::offset_of!(LinearParams, a_stride) - 12usize];
    [
        "Offset of field: LinearParams::b_stride",
    ][::core::mem::offset_of!(LinearParams, b_stride) - 16usize];
    [
        "Offset of field: LinearParams::chunk",
    ][::core::mem::offset_of!(LinearParams, chunk) - 20usize];
    [
        "Offset of field: LinearParams::splits",
    ][::core::mem::offset_of!(LinearParams, splits) - 24usize];
    [
        "Offset of field: LinearParams::flags",
    ][::core::mem::offset_of!(LinearParams, flags) - 28usize];
};
pub const LINEAR_OUT_F32: LinearFlags = 1;
pub const LINEAR_ADD: LinearFlags = 2;
pub const LINEAR_FROM_F32: LinearFlags = 4;
pub const LINEAR_BIAS: LinearFlags = 8;
pub const LINEAR_GATED: LinearFlags = 16;
pub type LinearFlags = ::core::ffi::c_uint;
pub const LINEAR_THREADS: LinearTiles = 128;
pub const LINEAR_LARGE: LinearTiles = 128;
pub const LINEAR_SMALL: LinearTiles = 64;
pub const LINEAR_SKINNY: LinearTiles = 16;
pub const LINEAR_DEPTH: LinearTiles = 64;
pub const LINEAR_LARGE_BYTES: LinearTiles = 65536;
pub const LINEAR_TALL_BYTES: LinearTiles = 49152;
pub const LINEAR_SMALL_BYTES: LinearTiles = 49152;
pub const LINEAR_SKINNY_BYTES: LinearTiles = 40960;
pub const LINEAR_GROUP_ROWS: LinearTiles = 128;
pub type LinearTiles = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ReduceParams {
    pub len: u32,
    pub factor: f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ReduceParams"][::core::mem::size_of::<ReduceParams>() - 8usize];
    ["Alignment of ReduceParams"][::core::mem::align_of::<ReduceParams>() - 4usize];
    [
        "Offset of field: ReduceParams::len",
    ][::core::mem::offset_of!(ReduceParams, len) - 0usize];
    [
        "Offset of field: ReduceParams::factor",
    ][::core::mem::offset_of!(ReduceParams, factor) - 4usize];
};
pub const REDUCE_THREADS: ReduceTiles = 256;
pub const REDUCE_PIECE: ReduceTiles = 16384;
pub const REDUCE_FOLD: ReduceTiles = 512;
pub const REDUCE_ENTRY: ReduceTiles = 2;
pub type ReduceTiles = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ReluParams {
    pub len: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ReluParams"][::core::mem::size_of::<ReluParams>() - 4usize];
    ["Alignment of ReluParams"][::core::mem::align_of::<ReluParams>() - 4usize];
    [
        "Offset of field: ReluParams::len",
    ][::core::mem::offset_of!(ReluParams, len) - 0usize];
};
pub const RELU_THREADS: ReluTiles = 256;
pub type ReluTiles = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct RmsnormParams {
    pub rows: u32,
    pub width: u32,
    pub eps: f32,
    pub add: u32,
    pub lanes: u32,
    pub tile: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of RmsnormParams"][::core::mem::size_of::<RmsnormParams>() - 24usize];
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
    [
        "Offset of field: RmsnormParams::lanes",
    ][::core::mem::offset_of!(RmsnormParams, lanes) - 16usize];
    [
        "Offset of field: RmsnormParams::tile",
    ][::core::mem::offset_of!(RmsnormParams, tile) - 20usize];
};
pub const RMSNORM_THREADS: RmsnormTiles = 256;
pub const RMSNORM_TILE: RmsnormTiles = 256;
pub const RMSNORM_FOLD: RmsnormTiles = 16;
pub type RmsnormTiles = ::core::ffi::c_uint;
pub const ROPE_THREADS: RopeTiles = 128;
pub const ROPE_TOKENS: RopeTiles = 4;
pub const ROPE_PAIRS: RopeTiles = 64;
pub type RopeTiles = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct RopeParams {
    pub frequency: [f64; 64usize],
    pub tokens: u32,
    pub heads: u32,
    pub pairs: u32,
    pub sign: f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of RopeParams"][::core::mem::size_of::<RopeParams>() - 528usize];
    ["Alignment of RopeParams"][::core::mem::align_of::<RopeParams>() - 8usize];
    [
        "Offset of field: RopeParams::frequency",
    ][::core::mem::offset_of!(RopeParams, frequency) - 0usize];
    [
        "Offset of field: RopeParams::tokens",
    ][::core::mem::offset_of!(RopeParams, tokens) - 512usize];
    [
        "Offset of field: RopeParams::heads",
    ][::core::mem::offset_of!(RopeParams, heads) - 516usize];
    [
        "Offset of field: RopeParams::pairs",
    ][::core::mem::offset_of!(RopeParams, pairs) - 520usize];
    [
        "Offset of field: RopeParams::sign",
    ][::core::mem::offset_of!(RopeParams, sign) - 524usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct SwigluParams {
    pub len: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SwigluParams"][::core::mem::size_of::<SwigluParams>() - 4usize];
    ["Alignment of SwigluParams"][::core::mem::align_of::<SwigluParams>() - 4usize];
    [
        "Offset of field: SwigluParams::len",
    ][::core::mem::offset_of!(SwigluParams, len) - 0usize];
};
pub const SWIGLU_THREADS: SwigluTiles = 256;
pub type SwigluTiles = ::core::ffi::c_uint;
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
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct TrieSoftmaxLossParams {
    pub rows: u32,
    pub vocab: u32,
    pub token_base: u32,
    pub codes: u32,
    pub nodes: u32,
    pub entries: u32,
    pub smoothing: f32,
    pub scale: f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of TrieSoftmaxLossParams",
    ][::core::mem::size_of::<TrieSoftmaxLossParams>() - 32usize];
    [
        "Alignment of TrieSoftmaxLossParams",
    ][::core::mem::align_of::<TrieSoftmaxLossParams>() - 4usize];
    [
        "Offset of field: TrieSoftmaxLossParams::rows",
    ][::core::mem::offset_of!(TrieSoftmaxLossParams, rows) - 0usize];
    [
        "Offset of field: TrieSoftmaxLossParams::vocab",
    ][::core::mem::offset_of!(TrieSoftmaxLossParams, vocab) - 4usize];
    [
        "Offset of field: TrieSoftmaxLossParams::token_base",
    ][::core::mem::offset_of!(TrieSoftmaxLossParams, token_base) - 8usize];
    [
        "Offset of field: TrieSoftmaxLossParams::codes",
    ][::core::mem::offset_of!(TrieSoftmaxLossParams, codes) - 12usize];
    [
        "Offset of field: TrieSoftmaxLossParams::nodes",
    ][::core::mem::offset_of!(TrieSoftmaxLossParams, nodes) - 16usize];
    [
        "Offset of field: TrieSoftmaxLossParams::entries",
    ][::core::mem::offset_of!(TrieSoftmaxLossParams, entries) - 20usize];
    [
        "Offset of field: TrieSoftmaxLossParams::smoothing",
    ][::core::mem::offset_of!(TrieSoftmaxLossParams, smoothing) - 24usize];
    [
        "Offset of field: TrieSoftmaxLossParams::scale",
    ][::core::mem::offset_of!(TrieSoftmaxLossParams, scale) - 28usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct TrieSoftmaxFollowParams {
    pub places: u32,
    pub width: u32,
    pub rows: u32,
    pub token_base: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of TrieSoftmaxFollowParams",
    ][::core::mem::size_of::<TrieSoftmaxFollowParams>() - 16usize];
    [
        "Alignment of TrieSoftmaxFollowParams",
    ][::core::mem::align_of::<TrieSoftmaxFollowParams>() - 4usize];
    [
        "Offset of field: TrieSoftmaxFollowParams::places",
    ][::core::mem::offset_of!(TrieSoftmaxFollowParams, places) - 0usize];
    [
        "Offset of field: TrieSoftmaxFollowParams::width",
    ][::core::mem::offset_of!(TrieSoftmaxFollowParams, width) - 4usize];
    [
        "Offset of field: TrieSoftmaxFollowParams::rows",
    ][::core::mem::offset_of!(TrieSoftmaxFollowParams, rows) - 8usize];
    [
        "Offset of field: TrieSoftmaxFollowParams::token_base",
    ][::core::mem::offset_of!(TrieSoftmaxFollowParams, token_base) - 12usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct TrieSoftmaxPathParams {
    pub rows: u32,
    pub beams: u32,
    pub steps: u32,
    pub parents: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of TrieSoftmaxPathParams",
    ][::core::mem::size_of::<TrieSoftmaxPathParams>() - 16usize];
    [
        "Alignment of TrieSoftmaxPathParams",
    ][::core::mem::align_of::<TrieSoftmaxPathParams>() - 4usize];
    [
        "Offset of field: TrieSoftmaxPathParams::rows",
    ][::core::mem::offset_of!(TrieSoftmaxPathParams, rows) - 0usize];
    [
        "Offset of field: TrieSoftmaxPathParams::beams",
    ][::core::mem::offset_of!(TrieSoftmaxPathParams, beams) - 4usize];
    [
        "Offset of field: TrieSoftmaxPathParams::steps",
    ][::core::mem::offset_of!(TrieSoftmaxPathParams, steps) - 8usize];
    [
        "Offset of field: TrieSoftmaxPathParams::parents",
    ][::core::mem::offset_of!(TrieSoftmaxPathParams, parents) - 12usize];
};
pub const TRIE_SOFTMAX_ALLOWED: TrieSoftmaxConstants = 0;
pub const TRIE_SOFTMAX_LEVEL: TrieSoftmaxConstants = 1;
pub const TRIE_SOFTMAX_VOCABULARY: TrieSoftmaxConstants = 2;
pub const TRIE_SOFTMAX_WARPS: TrieSoftmaxConstants = 4;
pub const TRIE_SOFTMAX_SELECT: TrieSoftmaxConstants = 8;
pub const TRIE_SOFTMAX_WIDTH: TrieSoftmaxConstants = 1024;
pub const TRIE_SOFTMAX_ROWS: TrieSoftmaxConstants = 4;
pub const TRIE_SOFTMAX_THREADS: TrieSoftmaxConstants = 256;
pub type TrieSoftmaxConstants = ::core::ffi::c_uint;
