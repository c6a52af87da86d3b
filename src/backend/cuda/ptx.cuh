// Owns the few machine instructions that the kernels need and C++ has no words for, and what takes their place on cards before
// Hopper (compute capability below 9.0), which have no dependent launch.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

namespace tritllm::cuda {

#define TRIT_DEVICE __device__ __forceinline__

// Dependent launch: the next kernel of the stream may begin now, and waits itself until this one has ended and its writes are seen.
TRIT_DEVICE void allow_next_kernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
TRIT_DEVICE void wait_for_previous_kernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// (a & mask) | bits in one instruction; the compiler makes two of it.
TRIT_DEVICE uint32_t mask_or(uint32_t a, uint32_t mask, uint32_t bits) {
  uint32_t result;
  asm("lop3.b32 %0, %1, %2, %3, 0xEA;" : "=r"(result) : "r"(a), "r"(mask), "r"(bits));
  return result;
}

TRIT_DEVICE uint32_t as_word(half2 pair) { return *reinterpret_cast<const uint32_t*>(&pair); }
TRIT_DEVICE half2 as_pair(uint32_t word) { return *reinterpret_cast<const half2*>(&word); }
TRIT_DEVICE uint32_t add_halves(uint32_t a, uint32_t b) { return as_word(__hadd2(as_pair(a), as_pair(b))); }
TRIT_DEVICE uint32_t multiply_halves(uint32_t a, uint32_t b) { return as_word(__hmul2(as_pair(a), as_pair(b))); }

// c += a·b for a block of 16 rows, 16 inputs, 8 columns; fp16 in, fp32 sums.
TRIT_DEVICE void mma_16x8x16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

TRIT_DEVICE uint32_t shared_address(const void* pointer) { return static_cast<uint32_t>(__cvta_generic_to_shared(pointer)); }

// Four matrices of 8 rows × 16 bytes; lane i gives the address of row i % 8 of matrix i / 8.
TRIT_DEVICE void load_matrices(uint32_t (&words)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(address)
               : "memory");
}

// Asynchronous copies of 16 bytes to shared memory, past the first-level cache.
TRIT_DEVICE void copy_async(uint32_t to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
// The same of `bytes` bytes, 0 to 16; the rest becomes zeros.
TRIT_DEVICE void copy_async_part(uint32_t to, const void* from, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
// The same of kBytes = 4, 8 or 16 bytes, where `wanted`; otherwise nothing is read or written. A predicate rather than a branch, so
// that the copies of one step mix with the arithmetic of the one before.
template <int kBytes>
TRIT_DEVICE void copy_async_where(uint32_t to, const void* from, bool wanted) {
  if constexpr (kBytes == 16) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %2, 0;\n@p cp.async.cg.shared.global.L2::256B [%0], [%1], 16;\n}" ::"r"(to),
                 "l"(from), "r"(static_cast<int>(wanted))
                 : "memory");
  } else {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %2, 0;\n@p cp.async.ca.shared.global.L2::256B [%0], [%1], %3;\n}" ::"r"(to),
                 "l"(from), "r"(static_cast<int>(wanted)), "n"(kBytes)
                 : "memory");
  }
}
TRIT_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>
TRIT_DEVICE void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Reads of shared memory that keep their place among the copies.
TRIT_DEVICE void read_shared4(uint32_t* words, uint32_t address) {
  asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(address)
               : "memory");
}
TRIT_DEVICE void read_shared2(uint32_t* words, uint32_t address) {
  asm volatile("ld.shared.v2.u32 {%0,%1}, [%2];" : "=r"(words[0]), "=r"(words[1]) : "r"(address) : "memory");
}
TRIT_DEVICE void read_shared1(uint32_t& word, uint32_t address) {
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(word) : "r"(address) : "memory");
}

// Blocks of a cluster: their number, a barrier of all that have not ended, and the address of a member's shared memory. `size`:
// cluster_size(); a cluster of one is a block, and all that cards before Hopper have.
TRIT_DEVICE uint32_t cluster_size() {
#if __CUDA_ARCH__ >= 900
  uint32_t size;
  asm("mov.u32 %0, %%cluster_nctaid.x;" : "=r"(size));
  return size;
#else
  return 1;
#endif
}
TRIT_DEVICE void cluster_barrier([[maybe_unused]] uint32_t size) {
#if __CUDA_ARCH__ >= 900
  if (size > 1) {
    asm volatile("barrier.cluster.arrive;\nbarrier.cluster.wait;" ::: "memory");
    return;
  }
#endif
  __syncthreads();
}
template <typename T>
TRIT_DEVICE const T* of_member(const T* own, [[maybe_unused]] uint32_t member, [[maybe_unused]] uint32_t size) {
#if __CUDA_ARCH__ >= 900
  if (size > 1) {
    uint64_t address;
    asm("mapa.u64 %0, %1, %2;" : "=l"(address) : "l"(own), "r"(member));
    return reinterpret_cast<const T*>(address);
  }
#endif
  return own;
}

// Asks for bytes that a later kernel reads; both are multiples of 16. Hopper and later.
TRIT_DEVICE void bring_to_l2(const void* from, uint32_t bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
#endif
}

// Weights are read once: they leave no trace in the first-level cache. Volatile keeps the loads where they are written, ahead of
// the wait for the previous kernel. Where `wanted` is false nothing is read and the words stay as they are; a predicate rather than
// a branch, so that the loads of one step mix with the arithmetic of the next.
TRIT_DEVICE void stream4(uint32_t* words, const void* pointer, bool wanted) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %5, 0;\n@p ld.global.nc.L1::no_allocate.L2::256B.v4.u32 {%0,%1,%2,%3}, [%4];\n}"
               : "+r"(words[0]), "+r"(words[1]), "+r"(words[2]), "+r"(words[3])
               : "l"(pointer), "r"(static_cast<int>(wanted)));
}
TRIT_DEVICE void stream2(uint32_t* words, const void* pointer, bool wanted) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %3, 0;\n@p ld.global.nc.L1::no_allocate.v2.u32 {%0,%1}, [%2];\n}"
               : "+r"(words[0]), "+r"(words[1])
               : "l"(pointer), "r"(static_cast<int>(wanted)));
}
TRIT_DEVICE void stream1(uint32_t& word, const void* pointer, bool wanted) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %2, 0;\n@p ld.global.nc.L1::no_allocate.u32 %0, [%1];\n}"
               : "+r"(word)
               : "l"(pointer), "r"(static_cast<int>(wanted)));
}

}  // namespace tritllm::cuda
