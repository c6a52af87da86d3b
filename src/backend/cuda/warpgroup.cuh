// Owns the warpgroup instructions of Hopper (sm_90a) that the prefill product uses, and barriers with bulk copies to shared memory.
#pragma once

#include "backend/cuda/ptx.cuh"

namespace tritllm::cuda {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define TRIT_WARPGROUP_MMA 1
#endif

#ifdef TRIT_WARPGROUP_MMA

#define TRIT_SUMS_8(d, i) \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])

#define TRIT_SUMS_4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])

// d = a·b, or d += a·b where `add`: 64 rows (16 a warp), 16 inputs. a lies in registers as for mma_16x8x16, b in shared memory.
TRIT_DEVICE void warpgroup_mma(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint64_t b, bool add) {
  asm volatile(
      "{.reg .pred p;\n setp.ne.b32 p, %9, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {"
      "%0, %1, %2, %3}, "
      "{%4, %5, %6, %7}, %8, p, 1, 1, 0;\n}"
      : TRIT_SUMS_4(d, 0)
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b), "r"(static_cast<int>(add)));
}
TRIT_DEVICE void warpgroup_mma(float (&d)[8], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint64_t b, bool add) {
  asm volatile(
      "{.reg .pred p;\n setp.ne.b32 p, %13, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7}, "
      "{%8, %9, %10, %11}, %12, p, 1, 1, 0;\n}"
      : TRIT_SUMS_8(d, 0)
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b), "r"(static_cast<int>(add)));
}
TRIT_DEVICE void warpgroup_mma(float (&d)[16], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint64_t b, bool add) {
  asm volatile(
      "{.reg .pred p;\n setp.ne.b32 p, %21, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.f16.f16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, "
      "{%16, %17, %18, %19}, %20, p, 1, 1, 0;\n}"
      : TRIT_SUMS_8(d, 0), TRIT_SUMS_8(d, 8)
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b), "r"(static_cast<int>(add)));
}
TRIT_DEVICE void warpgroup_mma(float (&d)[32], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint64_t b, bool add) {
  asm volatile(
      "{.reg .pred p;\n setp.ne.b32 p, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "{%32, %33, %34, %35}, %36, p, 1, 1, 0;\n}"
      : TRIT_SUMS_8(d, 0), TRIT_SUMS_8(d, 8), TRIT_SUMS_8(d, 16), TRIT_SUMS_8(d, 24)
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b), "r"(static_cast<int>(add)));
}
TRIT_DEVICE void warpgroup_mma(float (&d)[64], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint64_t b, bool add) {
  asm volatile(
      "{.reg .pred p;\n setp.ne.b32 p, %69, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
      "{%64, %65, %66, %67}, %68, p, 1, 1, 0;\n}"
      : TRIT_SUMS_8(d, 0), TRIT_SUMS_8(d, 8), TRIT_SUMS_8(d, 16), TRIT_SUMS_8(d, 24), TRIT_SUMS_8(d, 32), TRIT_SUMS_8(d, 40),
        TRIT_SUMS_8(d, 48), TRIT_SUMS_8(d, 56)
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b), "r"(static_cast<int>(add)));
}
TRIT_DEVICE void warpgroup_mma(float (&d)[128], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint64_t b, bool add) {
  asm volatile(
      "{.reg .pred p;\n setp.ne.b32 p, %133, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
      "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}, "
      "{%128, %129, %130, %131}, %132, p, 1, 1, 0;\n}"
      : TRIT_SUMS_8(d, 0), TRIT_SUMS_8(d, 8), TRIT_SUMS_8(d, 16), TRIT_SUMS_8(d, 24), TRIT_SUMS_8(d, 32), TRIT_SUMS_8(d, 40),
        TRIT_SUMS_8(d, 48), TRIT_SUMS_8(d, 56), TRIT_SUMS_8(d, 64), TRIT_SUMS_8(d, 72), TRIT_SUMS_8(d, 80), TRIT_SUMS_8(d, 88),
        TRIT_SUMS_8(d, 96), TRIT_SUMS_8(d, 104), TRIT_SUMS_8(d, 112), TRIT_SUMS_8(d, 120)
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b), "r"(static_cast<int>(add)));
}
#undef TRIT_SUMS_8
#undef TRIT_SUMS_4

// Registers written by ordinary instructions are seen by the instructions that follow.
TRIT_DEVICE void warpgroup_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
TRIT_DEVICE void warpgroup_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Returns when at most `kPending` of the committed groups have not ended.
template <int kPending = 0>
TRIT_DEVICE void warpgroup_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Registers a thread of this warpgroup has from here on; a multiple of 8. More are waited for until other warpgroups have given
// them.
template <int kRegisters>
TRIT_DEVICE void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
TRIT_DEVICE void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// B as [columns][64 halves], 128 bytes a column with the 128-byte swizzle; groups of 8 columns follow each other.
TRIT_DEVICE uint64_t operand_descriptor(uint32_t address) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62, kEightColumns = uint64_t{1024 >> 4} << 32, kUnused = uint64_t{1} << 16;
  return kSwizzle128 | kEightColumns | kUnused | ((address & 0x3ffffu) >> 4);
}

// The descriptor of what lies `bytes` further on, a multiple of 16: an addition, while a descriptor of its own takes five
// instructions.
TRIT_DEVICE uint64_t further(uint64_t descriptor, uint32_t bytes) { return descriptor + (bytes >> 4); }

TRIT_DEVICE void init_barrier(uint32_t barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
TRIT_DEVICE void publish_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
TRIT_DEVICE void arrive(uint32_t barrier) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory"); }
TRIT_DEVICE void wait_for_phase(uint32_t barrier, uint32_t parity) {
  asm volatile(
      "{\n.reg .pred p;\nAGAIN_%=:\n mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
      "@p bra.uni DONE_%=;\n bra.uni AGAIN_%=;\nDONE_%=:\n}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}
// Copies contiguous bytes, and lets the barrier's phase end when they have come.
TRIT_DEVICE void bulk_copy(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to), "l"(from),
               "r"(bytes), "r"(barrier)
               : "memory");
}

#endif

}  // namespace tritllm::cuda
