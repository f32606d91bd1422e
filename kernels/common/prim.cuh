// The hardware primitives that the kernels use, each once: inline PTX for nvcc, the emulation of
// tests/simt for a CPU build. Nothing outside this file contains `asm`.
#pragma once
#include <cuda.h>
#include <cuda_bf16.h>
#include <stdint.h>

#ifdef SIMT_CPU
#define PRIM __device__ inline
#else
#define PRIM __device__ __forceinline__
#define DYNAMIC_SHARED(T, name) \
  extern __shared__ __align__(1024) unsigned char dynamic_shared_raw[]; \
  T* name = reinterpret_cast<T*>(dynamic_shared_raw)
#define SIMT_EXPORT(kernel)
#endif

using bf16 = __nv_bfloat16;

PRIM uint32_t pack_bf16(float lo, float hi) {
  __nv_bfloat162 v = __floats2bfloat162_rn(lo, hi);
  uint32_t u;
  memcpy(&u, &v, 4);
  return u;
}

// 2ˣ, at most 2 ulp off, results below 2⁻¹²⁶ flushed to 0: one instruction of the special-function unit.
PRIM float exp2_approx(float x) {
#ifdef SIMT_CPU
  const float y = exp2f(x);
  return y < 1.17549435e-38f ? 0.0f : y;
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

// 16 bytes of global memory in one access; the address divides by 16.
PRIM uint4 load_16(const void* p) {
#ifdef SIMT_CPU
  return simt::load_16(p);
#else
  return *static_cast<const uint4*>(p);
#endif
}
// Written out since nvcc takes a uint4 store apart where its halves are computed apart. No memory clobber, so
// that loads of other elements may move across it: a kernel does not read what it stored so.
PRIM void store_16(void* p, uint4 v) {
#ifdef SIMT_CPU
  simt::store_16(p, v);
#else
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(p), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w));
#endif
}

// 32-bit address in the shared window.
PRIM uint32_t smem_u32(const void* p) {
#ifdef SIMT_CPU
  return simt::shared_address(p);
#else
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
#endif
}

// ---- Ampere: ldmatrix, mma.sync, cp.async ---------------------------------------------------------
PRIM void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
#ifdef SIMT_CPU
  simt::ldmatrix(r, 4, false, row);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(smem_u32(row)) : "memory");
#endif
}
PRIM void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
#ifdef SIMT_CPU
  simt::ldmatrix(r, 4, true, row);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(smem_u32(row)) : "memory");
#endif
}
// d += a * b, one 16x8x16 tile per warp.
PRIM void mma_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#ifdef SIMT_CPU
  const uint32_t b[2] = {b0, b1};
  simt::mma_m16n8k16_bf16(d, a, b);
#else
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}
// 16 bytes global -> shared; src_bytes < 16 fills the rest with zeros.
PRIM void cp_async_16(void* dst, const void* src, uint32_t src_bytes) {
#ifdef SIMT_CPU
  simt::cp_async(dst, src, 16, src_bytes);
#else
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(smem_u32(dst)), "l"(src), "r"(src_bytes) : "memory");
#endif
}
// 4 bytes global -> shared; src_bytes 0 writes zeros.
PRIM void cp_async_4(void* dst, const void* src, uint32_t src_bytes) {
#ifdef SIMT_CPU
  simt::cp_async(dst, src, 4, src_bytes);
#else
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(smem_u32(dst)), "l"(src), "r"(src_bytes) : "memory");
#endif
}
PRIM void cp_async_commit() {
#ifdef SIMT_CPU
  simt::cp_async_commit();
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int KEEP> PRIM void cp_async_wait() {
#ifdef SIMT_CPU
  simt::cp_async_wait(KEEP);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(KEEP) : "memory");
#endif
}

// ---- Hopper: mbarrier, TMA, wgmma -------------------------------------------------------------------
PRIM void mbar_init(uint64_t* bar, uint32_t arrivals) {
#ifdef SIMT_CPU
  simt::mbar_init(bar, arrivals);
#else
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(smem_u32(bar)), "r"(arrivals) : "memory");
#endif
}
// Makes initialised barriers visible to the copy engine; follow with __syncthreads().
PRIM void mbar_init_fence() {
#ifndef SIMT_CPU
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}
PRIM void mbar_arrive(uint64_t* bar) {
#ifdef SIMT_CPU
  simt::mbar_arrive(bar, 0);
#else
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(smem_u32(bar)) : "memory");
#endif
}
PRIM void mbar_arrive_expect_tx(uint64_t* bar, uint32_t bytes) {
#ifdef SIMT_CPU
  simt::mbar_arrive(bar, bytes);
#else
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(smem_u32(bar)), "r"(bytes) : "memory");
#endif
}
// Returns once the phase of that parity is complete.
PRIM void mbar_wait(uint64_t* bar, uint32_t parity) {
#ifdef SIMT_CPU
  simt::mbar_wait(bar, parity);
#else
  asm volatile(
      "{\n.reg .pred p;\nWAIT:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n@p bra DONE;\nbra WAIT;\nDONE:\n}" ::"r"(smem_u32(bar)), "r"(parity)
      : "memory");
#endif
}
PRIM void tma_load_2d(void* dst, const CUtensorMap* map, uint64_t* bar, int x, int y) {
#ifdef SIMT_CPU
  const int32_t at[2] = {x, y};
  simt::tma_load(dst, map, bar, at);
#else
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(
                   smem_u32(dst)), "l"(map), "r"(smem_u32(bar)), "r"(x), "r"(y) : "memory");
#endif
}
// Shared-memory matrix descriptor, 128-byte swizzle. `lbo` matters only for an MN-major operand wider than 64.
PRIM uint64_t wgmma_desc(const void* p, uint32_t lbo, uint32_t sbo) {
  return uint64_t((smem_u32(p) & 0x3ffff) >> 4) | uint64_t(lbo >> 4) << 16 | uint64_t(sbo >> 4) << 32 | 1ull << 62;
}
PRIM void wgmma_fence() {
#ifdef SIMT_CPU
  simt::wgmma_fence();
#else
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
PRIM void wgmma_commit() {
#ifdef SIMT_CPU
  simt::wgmma_commit();
#else
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
template <int KEEP> PRIM void wgmma_wait() {
#ifdef SIMT_CPU
  simt::wgmma_wait(KEEP);
#else
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(KEEP) : "memory");
#endif
}
// One 64x64x16 tile per warpgroup. TRANS_B: B is stored with n contiguous ([k][n]) rather than k.
template <int TRANS_B> PRIM void wgmma_m64n64k16(float (&d)[32], uint64_t da, uint64_t db, int accumulate) {
#ifdef SIMT_CPU
  simt::wgmma_issue(d, 64, da, db, accumulate != 0, TRANS_B != 0);
#else
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, "
      "%32, %33, p, 1, 1, 0, %35;\n}"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), "+f"(d[9]),
        "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]),
        "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]),
        "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
      : "l"(da), "l"(db), "r"(accumulate), "n"(TRANS_B));
#endif
}
template <int REGS> PRIM void setmaxnreg_dec() {
#ifndef SIMT_CPU
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGS));
#endif
}
template <int REGS> PRIM void setmaxnreg_inc() {
#ifndef SIMT_CPU
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGS));
#endif
}
