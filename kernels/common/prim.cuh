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
// Makes this thread's writes to shared memory visible to the copy engine and to wgmma, and orders its reads
// before their writes; then a barrier tells them.
PRIM void fence_proxy_async() {
#ifndef SIMT_CPU
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}
// Named barrier `id` of 1 to 15, `threads` of a block in all: those that wait and those that only arrive.
PRIM void named_sync(uint32_t id, uint32_t threads) {
#ifdef SIMT_CPU
  simt::sync_named(id, threads);
#else
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
#endif
}
PRIM void named_arrive(uint32_t id, uint32_t threads) {
#ifdef SIMT_CPU
  simt::arrive_named(id, threads);
#else
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
#endif
}
// to[i] += from[i] for `bytes` of f32 from shared to global memory by the copy engine, both ends and the
// length multiples of 16; in no order with other such sums. Groups as for cp.async, of the thread that issues.
PRIM void bulk_reduce_add_f32(float* to, const float* from, uint32_t bytes) {
#ifdef SIMT_CPU
  simt::bulk_reduce_add(to, from, bytes);
#else
  asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(to), "r"(smem_u32(from)), "r"(bytes)
               : "memory");
#endif
}
PRIM void bulk_commit() {
#ifdef SIMT_CPU
  simt::bulk_commit();
#else
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
#endif
}
// Until all but KEEP groups have read their shared memory, which may then be written again.
template <int KEEP> PRIM void bulk_wait_read() {
#ifdef SIMT_CPU
  simt::bulk_wait_read(KEEP);
#else
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(KEEP) : "memory");
#endif
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
// Keeps the compiler from moving accesses to these registers over this place: it knows nothing of products in flight, so
// this stands before the first product that uses them and behind the wait.
template <int N> PRIM void hold(float (&x)[N]) {
#ifdef SIMT_CPU
  (void)x;
#else
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+f"(x[i])::"memory");
#endif
}
template <int N> PRIM void hold(uint32_t (&x)[N]) {
#ifdef SIMT_CPU
  (void)x;
#else
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+r"(x[i])::"memory");
#endif
}
// The accumulators of a product N wide as operands of one instruction: their names, and where they are.
#ifndef SIMT_CPU
#define WGMMA_NAMES_64 \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27," \
  "%28,%29,%30,%31}, "
#define WGMMA_NAMES_128 \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27," \
  "%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53," \
  "%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, "
#define WGMMA_8(d, i) \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define WGMMA_AT_64(d) WGMMA_8(d, 0), WGMMA_8(d, 8), WGMMA_8(d, 16), WGMMA_8(d, 24)
#define WGMMA_AT_128(d) WGMMA_AT_64(d), WGMMA_8(d, 32), WGMMA_8(d, 40), WGMMA_8(d, 48), WGMMA_8(d, 56)
#endif
// d += a·b for one 64xNx16 tile of a warpgroup, d ← a·b unless `accumulate`; both operands in shared memory.
// TRANS_A, TRANS_B: the operand is stored with m (n) contiguous rather than k. In flight until wgmma_wait.
template <int N, int TRANS_A, int TRANS_B> PRIM void wgmma_ss(float (&d)[N / 2], uint64_t da, uint64_t db, int accumulate) {
  static_assert(N == 64 || N == 128);
#ifdef SIMT_CPU
  simt::wgmma_issue(d, N, nullptr, da, db, accumulate != 0, TRANS_A != 0, TRANS_B != 0);
#else
  if constexpr (N == 64) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\nwgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
        WGMMA_NAMES_64 "%32, %33, p, 1, 1, %35, %36;\n}"
        : WGMMA_AT_64(d) : "l"(da), "l"(db), "r"(accumulate), "n"(TRANS_A), "n"(TRANS_B));
  } else {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\nwgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
        WGMMA_NAMES_128 "%64, %65, p, 1, 1, %67, %68;\n}"
        : WGMMA_AT_128(d) : "l"(da), "l"(db), "r"(accumulate), "n"(TRANS_A), "n"(TRANS_B));
  }
#endif
}
// The same with a in registers, a thread's share as for mma.m16n8k16 of its warp's 16 rows: they, too, may
// not be touched until wgmma_wait.
template <int N, int TRANS_B> PRIM void wgmma_rs(float (&d)[N / 2], const uint32_t* a, uint64_t db, int accumulate) {
  static_assert(N == 64 || N == 128);
#ifdef SIMT_CPU
  simt::wgmma_issue(d, N, a, 0, db, accumulate != 0, false, TRANS_B != 0);
#else
  if constexpr (N == 64) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\nwgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
        WGMMA_NAMES_64 "{%32,%33,%34,%35}, %36, p, 1, 1, %38;\n}"
        : WGMMA_AT_64(d) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(db), "r"(accumulate), "n"(TRANS_B));
  } else {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\nwgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
        WGMMA_NAMES_128 "{%64,%65,%66,%67}, %68, p, 1, 1, %70;\n}"
        : WGMMA_AT_128(d) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(db), "r"(accumulate), "n"(TRANS_B));
  }
#endif
}
// Registers of a thread from here on, for the whole warpgroup: a producer gives, consumers take.
template <int REGS> PRIM void setmaxnreg_dec() {
#ifdef SIMT_CPU
  simt::setmaxnreg(REGS);
#else
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGS));
#endif
}
template <int REGS> PRIM void setmaxnreg_inc() {
#ifdef SIMT_CPU
  simt::setmaxnreg(REGS);
#else
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGS));
#endif
}
