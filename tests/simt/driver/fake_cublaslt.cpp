// A libcublasLt.so for the emulated GPU of fake_cuda.cpp: the entry points that bindings/src/driver/blas.rs
// calls, with the real ones' semantics (column-major operands, op A, op B, α, β), in plain loops. Work goes
// through the driver's stream, so a captured graph holds it.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

enum { OK = 0, INVALID = 7, UNSUPPORTED = 15, BF16 = 14, F32 = 0 };
extern "C" int cuLaunchHostFunc(void* stream, void (*f)(void*), void* data);

namespace {
struct Layout {
  int type;
  uint64_t rows, columns;
  int64_t stride;
};
struct Desc {
  int32_t turn[2] = {0, 0};
};
struct Prefer {
  size_t workspace = 0;
  uint32_t alignment[4] = {256, 256, 256, 256};
};
// What cublasLtMatmulHeuristicResult_t holds.
struct Found {
  uint64_t algorithm[8];
  size_t workspace;
  int status;
  float waves;
  int reserved[4];
};
struct Work {
  Desc desc;
  float alpha, beta;
  Layout a, b, c;
  const uint16_t *pa, *pb;
  const void* pc;
  void* pd;
};
float wide(uint16_t b) {
  const uint32_t u = uint32_t(b) << 16;
  float f;
  return memcpy(&f, &u, 4), f;
}
uint16_t narrow(float f) {
  uint32_t u;
  memcpy(&u, &f, 4);
  return (u & 0x7fffffff) > 0x7f800000 ? 0x7fff : uint16_t((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
// Operand as a packed [side][depth] array, whichever way it is stored.
std::vector<float> packed(const uint16_t* p, const Layout& l, bool by_row, uint64_t side, uint64_t depth) {
  std::vector<float> v(side * depth);
  for (uint64_t i = 0; i < side; ++i) {
    for (uint64_t x = 0; x < depth; ++x) v[i * depth + x] = wide(p[by_row ? x * l.stride + i : i * l.stride + x]);
  }
  return v;
}
void multiply(void* data) {
  const Work& w = *static_cast<Work*>(data);
  const uint64_t m = w.c.rows, n = w.c.columns, k = w.desc.turn[0] ? w.a.rows : w.a.columns;
  const auto a = packed(w.pa, w.a, !w.desc.turn[0], m, k), b = packed(w.pb, w.b, w.desc.turn[1], n, k);
  for (uint64_t j = 0; j < n; ++j) {
    for (uint64_t i = 0; i < m; ++i) {
      float part[8] = {}, sum = 0;
      const float *x = &a[i * k], *y = &b[j * k];
      for (uint64_t t = 0; t < k; ++t) part[t % 8] += x[t] * y[t];
      for (float p : part) sum += p;
      const size_t at = size_t(j) * w.c.stride + i;
      float d = w.alpha * sum;
      if (w.beta != 0) d += w.beta * (w.c.type == F32 ? static_cast<const float*>(w.pc)[at] : wide(static_cast<const uint16_t*>(w.pc)[at]));
      if (w.c.type == F32) static_cast<float*>(w.pd)[at] = d;
      else static_cast<uint16_t*>(w.pd)[at] = narrow(d);
    }
  }
}
}  // namespace

extern "C" {
size_t cublasLtGetVersion() { return 130100; }
int cublasLtCreate(void** h) { return *h = new int, OK; }
int cublasLtDestroy(void* h) { return delete static_cast<int*>(h), OK; }
int cublasLtMatrixLayoutCreate(Layout** l, int type, uint64_t rows, uint64_t columns, int64_t stride) {
  return *l = new Layout{type, rows, columns, stride}, OK;
}
int cublasLtMatmulDescCreate(Desc** d, int compute, int scale) {
  return *d = new Desc, compute == 68 && scale == F32 ? OK : UNSUPPORTED;
}
int cublasLtMatmulDescSetAttribute(Desc* d, int what, const void* value, size_t bytes) {
  if ((what != 3 && what != 4) || bytes != 4) return INVALID;  // TRANSA, TRANSB
  return memcpy(&d->turn[what - 3], value, 4), OK;
}
int cublasLtMatmulPreferenceCreate(Prefer** p) { return *p = new Prefer, OK; }
int cublasLtMatmulPreferenceDestroy(Prefer* p) { return delete p, OK; }
int cublasLtMatmulPreferenceSetAttribute(Prefer* p, int what, const void* value, size_t bytes) {
  if (what == 1 && bytes == sizeof(size_t)) return memcpy(&p->workspace, value, bytes), OK;
  if (what >= 5 && what <= 8 && bytes == 4) return memcpy(&p->alignment[what - 5], value, 4), OK;
  return INVALID;
}
int cublasLtMatmulAlgoGetHeuristic(void*, const Desc* d, const Layout* a, const Layout* b, const Layout* c, const Layout* out,
                                   const Prefer* p, int asked, Found* found, int* count) {
  const uint64_t m = d->turn[0] ? a->columns : a->rows, k = d->turn[0] ? a->rows : a->columns;
  const uint64_t n = d->turn[1] ? b->rows : b->columns, k2 = d->turn[1] ? b->columns : b->rows;
  if (k != k2 || m != out->rows || n != out->columns || c->rows != m || c->columns != n || asked < 1) return INVALID;
  if (a->type != BF16 || b->type != BF16 || c->type != out->type || p->alignment[0] > 16) return UNSUPPORTED;
  *found = Found{{0x51}, 0, OK, 1.0f, {}};
  return *count = 1, OK;
}
int cublasLtMatmul(void*, const Desc* d, const float* alpha, const void* pa, const Layout* a, const void* pb, const Layout* b,
                   const float* beta, const void* pc, const Layout* c, void* pd, const Layout*, const uint64_t* algorithm, void* workspace,
                   size_t, void* stream) {
  if (algorithm[0] != 0x51 || !workspace) return INVALID;
  for (const void* p : {pa, pb, pc, const_cast<const void*>(pd)}) if (reinterpret_cast<uintptr_t>(p) % 16) return INVALID;
  // Kept for good: a captured graph may run it again.
  auto* work = new Work{*d, *alpha, *beta, *a, *b, *c, static_cast<const uint16_t*>(pa), static_cast<const uint16_t*>(pb), pc, pd};
  return cuLaunchHostFunc(stream, multiply, work);
}
}
