// Owns a CUDA device as the backend uses it: its stream, memory on it, and how its errors become Errors. Does not own what is
// computed there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "backend/cuda/launch.h"

namespace tritllm::cuda {

class Context {
 public:
  explicit Context(int device);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  const DeviceTraits& traits() const noexcept { return traits_; }
  Stream stream() const noexcept { return stream_; }
  std::string name() const;

  // Makes this the device of the calling thread: backends may be used from any, one at a time.
  void use() const;
  void wait() const;

  // Asynchronous; from or to ordinary memory they return when that may be used again.
  void upload(const void* from, void* to, size_t bytes) const;
  void download(const void* from, void* to, size_t bytes) const;  // waits
  void clear(void* at, size_t bytes) const;

  // Grows when memory is given back: what recorded its address must not be replayed.
  uint64_t generation() const noexcept { return generation_; }

  // For ScratchMemory, once.
  void keep_freed_memory();

 private:
  friend class DeviceMemory;
  bool keeps_freed_memory_ = false;
  int device_;
  DeviceTraits traits_;
  Stream stream_ = nullptr;
  uint64_t generation_ = 0;
};

// Throws an Error for any status but success. After a fault in a kernel every later call fails as well: the message says so.
void check(Status status, const char* action);

// Bytes on the device, not cleared. Throws an Error of kUnsupported where the device has no room for them.
class DeviceMemory {
 public:
  DeviceMemory(Context& context, size_t bytes);
  ~DeviceMemory();
  DeviceMemory(DeviceMemory&& other) noexcept : context_(other.context_), data_(other.data_), bytes_(other.bytes_) {
    other.data_ = nullptr;
  }
  DeviceMemory& operator=(DeviceMemory&&) = delete;

  size_t bytes() const noexcept { return bytes_; }
  template <typename T>
  T* as() const noexcept {
    return static_cast<T*>(data_);
  }

 private:
  Context* context_;
  void* data_ = nullptr;
  size_t bytes_;
};

// Bytes on the device, not cleared, for work on the context's stream alone: taken from what was freed there before, in
// microseconds. Some gigabytes of freed memory are kept for that.
class ScratchMemory {
 public:
  ScratchMemory(Context& context, size_t bytes);
  ~ScratchMemory();
  ScratchMemory(const ScratchMemory&) = delete;
  ScratchMemory& operator=(const ScratchMemory&) = delete;

  template <typename T>
  T* as() const noexcept {
    return static_cast<T*>(data_);
  }

 private:
  Context& context_;
  void* data_ = nullptr;
};

// Memory of the host that the device copies from and to without a detour.
class PinnedMemory {
 public:
  explicit PinnedMemory(size_t bytes);
  ~PinnedMemory();
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;

  size_t bytes() const noexcept { return bytes_; }
  template <typename T>
  T* as() const noexcept {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
  size_t bytes_;
};

}  // namespace tritllm::cuda
