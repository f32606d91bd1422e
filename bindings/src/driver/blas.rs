//! cuBLASLt for large products: the library is opened when the first of them is launched, and its absence
//! is no error. Descriptors and the algorithm of a shape are made once and kept; the workspace is one
//! allocation a GPU, which its single stream makes safe to share. Elsewhere: when a product is large
//! (`launch::linear`).

use super::Gpu;
use crate::error::{Error, Result, driver};
use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;
use cudarc::driver::{CudaSlice, DevicePtr};
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Mutex, OnceLock, PoisonError};

/// What its split and stream-K algorithms may use: 32 MiB, as NVIDIA advises for Hopper.
static WORKSPACE: usize = 32 << 20;
/// Operands are aligned to this many bytes at least.
static ALIGNMENT: u32 = 16;

/// out `[M, N]` ← (add +) a·b, row-major, a and b bf16, out and add bf16 or f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Matmul {
    /// a is `[K, M]`, else `[M, K]`.
    pub a_by_k: bool,
    /// b is `[K, N]`, else `[N, K]`.
    pub b_by_k: bool,
    pub m: u32,
    pub n: u32,
    pub k: u32,
    /// Elements from one row to the next.
    pub a_stride: u32,
    pub b_stride: u32,
    pub out_f32: bool,
    pub add: bool,
}

/// The library, opened for one GPU.
pub(crate) struct Blas {
    handle: sys::cublasLtHandle_t,
    workspace: CudaSlice<f32>,
    /// None: the library has no algorithm for the shape.
    plans: Mutex<HashMap<Matmul, Option<Plan>>>,
}
// SAFETY: a handle may be used from several threads at a time; descriptors are written before they are
// shared and only read afterwards.
unsafe impl Send for Blas {}
// SAFETY: as above.
unsafe impl Sync for Blas {}

/// Descriptors and algorithm of a shape. Kept as long as the process, like the GPU itself.
#[derive(Clone, Copy)]
struct Plan {
    product: sys::cublasLtMatmulDesc_t,
    a: sys::cublasLtMatrixLayout_t,
    b: sys::cublasLtMatrixLayout_t,
    out: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

/// Whether `SIDRA_GEMM` leaves the choice open ("auto", the default) or names our own kernels ("own").
fn wanted() -> std::result::Result<bool, String> {
    match std::env::var("SIDRA_GEMM").unwrap_or_default().as_str() {
        "" | "auto" => Ok(true),
        "own" => Ok(false),
        other => Err(format!("SIDRA_GEMM={other}: auto or own are possible; taken as auto")),
    }
}

fn present() -> bool {
    static PRESENT: OnceLock<bool> = OnceLock::new();
    // SAFETY: opening the library runs its initialisers, which is what every program linked to it does.
    // Without this question cudarc would panic on a machine without it.
    *PRESENT.get_or_init(|| unsafe { sys::is_culib_present() })
}

/// What computes products on a GPU, in words. Opens no GPU.
pub(crate) fn gemm() -> String {
    const OWN: &str = "own kernels";
    let wanted = wanted();
    if wanted == Ok(false) {
        return format!("{OWN} (SIDRA_GEMM=own)");
    }
    let mut text = if present() {
        // SAFETY: takes nothing and returns a number; the library is there.
        let v = unsafe { sys::cublasLtGetVersion() };
        let (major, minor, patch) = (v / 10_000, v / 100 % 100, v % 100);
        format!("cuBLASLt {major}.{minor}.{patch} for large products, {OWN} for the others")
    } else {
        format!("{OWN} (libcublasLt is not on the loader's path)")
    };
    if let Err(said) = wanted {
        text += &format!("; {said}");
    }
    text
}

impl Blas {
    /// The library for `gpu`; None where it is absent or not wanted.
    ///
    /// # Errors
    /// A library that is there and does not start, or no room for its workspace.
    pub(super) fn open(gpu: &Gpu) -> Result<Option<Blas>> {
        if wanted() == Ok(false) || !present() {
            return Ok(None);
        }
        gpu.context().bind_to_thread().map_err(driver(format!("opening cuBLASLt on {gpu}")))?;
        let handle = result::create_handle().map_err(failed("opening cuBLASLt"))?;
        // SAFETY: the elements are unset; only the library reads them, after it has written them.
        let workspace = unsafe { gpu.stream().alloc::<f32>(WORKSPACE / 4) }
            .map_err(driver("allocating the workspace of cuBLASLt"))?;
        Ok(Some(Blas { handle, workspace, plans: Mutex::default() }))
    }

    /// Puts the product on the GPU's stream; false where the library has no algorithm for it.
    ///
    /// # Safety
    /// The addresses are aligned to 16 bytes and lie on `gpu`, in buffers that hold what the sizes say.
    pub(crate) unsafe fn run(
        &self,
        gpu: &Gpu,
        call: Matmul,
        a: u64,
        b: u64,
        from: u64,
        out: u64,
    ) -> Result<bool> {
        let plan = {
            let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
            match plans.get(&call) {
                Some(plan) => *plan,
                None => {
                    let plan = self.plan(&call).map_err(failed(&format!("planning {call:?}")))?;
                    *plans.entry(call).or_insert(plan)
                }
            }
        };
        let Some(plan) = plan else { return Ok(false) };
        gpu.context().bind_to_thread().map_err(driver("cuBLASLt"))?;
        let (one, beta) = (1.0f32, if call.add { 1.0f32 } else { 0.0 });
        let at = |address: u64| address as *const c_void;
        // Row-major out = a·b is column-major outᵀ = bᵀ·aᵀ: b takes the place of the first operand.
        // SAFETY: handle and descriptors are alive and say the sizes of what the caller promises to be
        // there; α and β are read before the call returns (pointer mode host).
        unsafe {
            result::matmul(
                self.handle,
                plan.product,
                (&raw const one).cast(),
                (&raw const beta).cast(),
                at(b),
                plan.b,
                at(a),
                plan.a,
                at(from),
                plan.out,
                at(out).cast_mut(),
                plan.out,
                &plan.algorithm,
                at(self.workspace.device_ptr(gpu.stream()).0).cast_mut(),
                WORKSPACE,
                gpu.stream().cu_stream().cast(),
            )
        }
        .map_err(failed(&format!("{call:?}")))?;
        Ok(true)
    }

    fn plan(&self, call: &Matmul) -> std::result::Result<Option<Plan>, CublasError> {
        use sys::cublasLtMatmulDescAttributes_t as Desc;
        use sys::cublasLtMatmulPreferenceAttributes_t as Prefer;
        use sys::cudaDataType::{CUDA_R_16BF, CUDA_R_32F};
        let (m, n, k) = (u64::from(call.m), u64::from(call.n), u64::from(call.k));
        let layout = |kind, rows: u64, columns: u64, stride: u32| {
            result::create_matrix_layout(kind, rows, columns, i64::from(stride))
        };
        let product =
            result::create_matmul_desc(sys::cublasComputeType_t::CUBLAS_COMPUTE_32F, CUDA_R_32F)?;
        // Column-major, a row-major [R, C] is a [C, R].
        let sizes = |by_k, side| if by_k { (side, k) } else { (k, side) };
        let ((b0, b1), (a0, a1)) = (sizes(call.b_by_k, n), sizes(call.a_by_k, m));
        let b = layout(CUDA_R_16BF, b0, b1, call.b_stride)?;
        let a = layout(CUDA_R_16BF, a0, a1, call.a_stride)?;
        let out = layout(if call.out_f32 { CUDA_R_32F } else { CUDA_R_16BF }, n, m, call.n)?;
        let prefer = result::create_matmul_pref()?;
        let turn = |turned: bool| i32::from(turned); // CUBLAS_OP_N, CUBLAS_OP_T
        let (turn_first, turn_second) = (turn(!call.b_by_k), turn(call.a_by_k));
        // SAFETY: the descriptors were just made; each attribute gets a value of its own type and size.
        let found = unsafe {
            let size = size_of::<i32>();
            let turns = [
                (Desc::CUBLASLT_MATMUL_DESC_TRANSA, turn_first),
                (Desc::CUBLASLT_MATMUL_DESC_TRANSB, turn_second),
            ];
            for (attribute, value) in &turns {
                result::set_matmul_desc_attribute(
                    product,
                    *attribute,
                    (&raw const *value).cast(),
                    size,
                )?;
            }
            let bytes = Prefer::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
            let (value, size) = (&raw const WORKSPACE, size_of::<usize>());
            result::set_matmul_pref_attribute(prefer, bytes, value.cast(), size)?;
            for attribute in [
                Prefer::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                Prefer::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                Prefer::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                Prefer::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
            ] {
                let (value, size) = (&raw const ALIGNMENT, size_of::<u32>());
                result::set_matmul_pref_attribute(prefer, attribute, value.cast(), size)?;
            }
            let found =
                result::get_matmul_algo_heuristic(self.handle, product, b, a, out, out, prefer);
            result::destroy_matmul_pref(prefer)?;
            found
        };
        match found {
            Ok(found) => Ok(Some(Plan { product, a, b, out, algorithm: found.algo })),
            Err(CublasError(sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED)) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

fn failed(what: &str) -> impl FnOnce(CublasError) -> Error {
    let what = what.to_owned();
    move |e| Error::Driver {
        what,
        code: format!("{:?}", e.0),
        text: "cuBLASLt failed; SIDRA_GEMM=own leaves it out".into(),
    }
}
